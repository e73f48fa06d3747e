"""`notifier dev`: see the whole thing work on this machine."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from notifier.cli.dev_view import LadderView, plain_line
from notifier.cli.options import AsJson
from notifier.processes.dev import Playground, open_playground


def dev(
    once: Annotated[bool, typer.Option("--once", help="End when the sample notifications are settled.")] = False,
    as_json: AsJson = False,
    receiver: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Send to a receiver of your own, at URL/prompt, URL/flaky and URL/silent, on loopback."
        ),
    ] = None,
    receiver_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the sample merchants receive there, as JSON lines.")
    ] = None,
) -> None:
    """Everything at once on this machine: a private RabbitMQ, the service, its dashboard, and three sample merchants.

    One merchant acknowledges at once, one fails twice, one never acknowledges; watch their notifications climb the
    ladder. Without --once it goes on until Ctrl-C, and prints what to export so that you can enqueue from a second
    terminal. RabbitMQ is the one of NOTIFIER_AMQP_URL if that is set, else a container if an engine answers, else a
    private node of the installed rabbitmq-server; whatever was started is gone afterwards. Callbacks may go to this
    machine only.

    With --json (which implies --once) the result is printed as one JSON document: each attempt as the service tells
    it, each request as the merchants received it, and whether the two agree. Exit 0 if they do.

    Examples:
      notifier dev
      notifier dev --once --json | jq .notifications
      NOTIFIER_LADDER=1s,2s notifier dev --once
    """
    if receiver is not None and receiver_log is not None:
        raise typer.BadParameter("--receiver-log is the log of the built-in merchants: leave it out with --receiver")
    raise typer.Exit(asyncio.run(_play(once or as_json, as_json, receiver, receiver_log)))


async def _play(once: bool, as_json: bool, receiver: str | None, log: Path | None) -> int:
    console = Console(stderr=as_json, highlight=False)

    def tell(sentence: str) -> None:
        console.print(sentence, style="dim", markup=False, soft_wrap=True)

    async with open_playground(tell, receiver, log) as playground:
        playground.on_line = lambda line: _tell_line(line, console)
        await playground.start()
        if (code := playground.code) is not None:
            return code
        if playground.dashboard is not None:
            console.print(f"Dashboard: {playground.dashboard}", style="bold", markup=False, soft_wrap=True)
        await playground.send_samples()
        await _watch(playground, console, once)
        await playground.stop()
        if as_json:
            sys.stdout.write(json.dumps(playground.report(), indent=2) + "\n")
        elif once:
            tell(_summary(playground))
        return 1 if playground.agrees() is False else playground.code or 0


async def _watch(playground: Playground, console: Console, once: bool) -> None:
    """Show the climb until the samples are settled (once) or the service ends."""
    until = playground.settled if once else playground.ended
    if not console.is_terminal:
        playground.on_attempt = lambda climb, attempt: console.print(
            plain_line(climb, attempt), markup=False, soft_wrap=True
        )
        await until()
        return
    rungs = [tier.name for tier in playground.settings.default_ladder]
    console.print(_headline(playground), style="bold", markup=False, soft_wrap=True)
    for hint in _hints(playground, once):  # above the live part, where a terminal lets them be copied whole
        console.print(hint, style="dim", markup=False, soft_wrap=True)
    with Live(LadderView(rungs, playground.climbs, console.width), console=console, refresh_per_second=8):
        await until()


def _summary(playground: Playground) -> str:
    attempts = sum(len(climb.attempts) for climb in playground.climbs)
    late = [attempt.late_ms for climb in playground.climbs for attempt in climb.attempts if attempt.late_ms is not None]
    latest = f", none before its due moment, at most {max(late):.0f} ms after" if late else ""
    match playground.agrees():
        case None:
            return f"{attempts} attempts{latest}."
        case True:
            return f"{attempts} attempts{latest}; the merchants received exactly those."
        case False:
            return f"{attempts} attempts{latest}; the merchants' own record DIFFERS: see --json."


def _headline(playground: Playground) -> str:
    count = len(playground.settings.tiers)
    return f"{count} tier processes · RabbitMQ {playground.broker} · merchants {playground.receiver}"


def _hints(playground: Playground, once: bool) -> list[str]:
    if once:
        return ["Ctrl-C ends it; it ends by itself when all three are settled."]
    settings = playground.settings
    assert settings.amqp_url is not None
    lines = ["Ctrl-C ends it. To enqueue more from a second terminal, with the virtual environment active:"]
    lines += [f"  export NOTIFIER_AMQP_URL={settings.amqp_url.get_secret_value()}"]
    if settings.namespace != "notifier":
        lines += [f"  export NOTIFIER_NAMESPACE={settings.namespace}"]
    lines += [f"  export NOTIFIER_RUNTIME_DIR={settings.runtime_dir} NOTIFIER_STATE_DIR={settings.state_dir}"]
    lines += ["  notifier enqueue --merchant flaky --payload '{\"order\": 7}'", "  notifier notifications list"]
    return lines


def _tell_line(line: str, console: Console) -> None:
    """What the processes print besides attempts: their warnings and errors, short."""
    if line == "ready" or line.startswith("dashboard: "):  # shown above
        return
    try:
        event = json.loads(line)
    except ValueError:
        console.print(line, style="yellow", markup=False, soft_wrap=True)
        return
    if event.get("level") in ("warning", "error"):
        fields = {name: value for name, value in event.items() if name not in ("ts", "level", "process", "event")}
        said = " ".join(f"{name}={value}" for name, value in fields.items())
        console.print(
            f"{event.get('process')}: {event.get('event')} {said}", style="yellow", markup=False, soft_wrap=True
        )
