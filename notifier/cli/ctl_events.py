"""`notifier ctl events`: what happens, as it happens."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import typer

from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_line import complain, talk
from notifier.cli.options import AsJson
from notifier.supervision.operator import Operator

_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}
_FIXED = ("ts", "event", "level")
#: Of these everything from the chosen one on is shown.
_LEVELS = ("debug", "info", "warning", "error", "critical")


def events(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="From now on, until Ctrl-C or the service's end.")
    ] = False,
    level: Annotated[
        str, typer.Option("--level", metavar="LEVEL", help="The least one: debug, info, warning or error.")
    ] = "info",
    as_json: AsJson = False,
) -> None:
    """What happens in the service: processes that start, end, wait, hang; what operators do.

    The attempts themselves are in the log. Who only looks is told at the level debug. With --json each event is one
    line.

    Exit code: 1 when the service ends.

    Examples:
      notifier ctl events --follow
      notifier ctl events --follow --json | jq -c 'select(.slot == "tier:5s")'
    """
    if not follow:
        raise typer.BadParameter("what is over is in the log; add --follow for what happens from now on")
    if level not in _LEVELS:
        raise typer.BadParameter(f"{level!r} is none of debug, info, warning, error", param_hint="--level")
    wanted = _LEVELS[_LEVELS.index(level) :]
    talk(lambda operator: _follow(operator, wanted, as_json))
    complain("the service has ended")
    raise typer.Exit(1)


async def _follow(operator: Operator, levels: Collection[str], as_json: bool) -> None:
    async for event in operator.events():
        if event["level"] not in levels:
            continue
        if as_json:
            print_line(json.dumps(event, ensure_ascii=False))
        else:
            print_line(line(event), _COLOURS.get(str(event["level"])))


def line(event: Mapping[str, Any]) -> str:
    """One event for people: when, what, and its fields."""
    said = " ".join(
        f"{name}={_short(value)}" for name, value in event.items() if name not in _FIXED and value is not None
    )
    return f"{event['ts']} {event['event']:<16} {said}".rstrip()


def print_line(text: str, colour: str | None = None) -> None:
    """Print at once, whoever reads; in colour on a terminal that wants it."""
    coloured = colour is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
    typer.echo(typer.style(text, fg=colour) if coloured else text)
    sys.stdout.flush()


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, str):
        plain = visible(value)
        return plain if plain and not any(mark in plain for mark in ' "=') else json.dumps(plain, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=True)
