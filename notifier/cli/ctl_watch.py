"""`notifier ctl stats`: how much each process does, once or again and again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

from notifier.cli.ctl_line import PROMPT, print_json, talk
from notifier.cli.ctl_spans import milliseconds
from notifier.cli.options import AsJson
from notifier.cli.table import table_lines
from notifier.supervision.operator import Operator

#: Seconds between two looks; the processes tell their statistics once a second.
PERIOD = 1.0
#: Statistics that add up over processes.
SUMS = ("in_flight", "rate", "attempts", "completed", "failed", "held", "poisoned")
_HEADS = [
    "SLOT", "STATE", "IN FLIGHT", "PER SECOND", "ATTEMPTS", "COMPLETED", "FAILED", "HELD", "POISONED",
    "LATE P50", "LATE P99", "BROKER",
]  # fmt: skip
#: Cursor home, and away with everything below (ECMA-48, CUP and ED).
_CLEAR = "\x1b[H\x1b[J"


def stats(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Every second, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """How much each process does: in flight, attempts per second, and what came of them since it started.

    LATE: how long after its due moment an attempt started, at the median and for one in a hundred. With --json and
    --watch each look is one line.

    Examples:
      notifier ctl stats
      notifier ctl stats --watch
    """
    if watch:
        talk(lambda operator: _watch(operator, as_json))
    status = talk(lambda operator: operator.ask("status", timeout=PROMPT))
    if as_json:
        print_json(summary(status["slots"]))
    else:
        typer.echo("\n".join(lines(status["slots"])))


def summary(slots: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The statistics of all slots, and the sums of those that add up."""
    shown = [{"slot": slot["slot"], "state": slot["state"], "statistics": slot["statistics"]} for slot in slots]
    return {"slots": shown, "total": {name: _total(slots, name) for name in SUMS}}


def lines(slots: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for people. A dash: the process does not say."""
    rows = [_row(slot["slot"], slot["state"], slot["statistics"]) for slot in slots]
    if len(rows) > 1:
        rows.append(_row("total", "", {name: _total(slots, name) for name in SUMS}, absent=""))
    return table_lines(_HEADS, rows, right=_HEADS[2:-1])


async def _watch(operator: Operator, as_json: bool) -> NoReturn:
    while True:
        slots = (await operator.ask("status", timeout=PROMPT))["slots"]
        if as_json:
            typer.echo(json.dumps(summary(slots), ensure_ascii=False))
        else:
            before = _CLEAR if sys.stdout.isatty() else ""
            typer.echo(before + "\n".join(lines(slots)) + ("" if before else "\n"))
        sys.stdout.flush()
        await asyncio.sleep(PERIOD)


def _row(slot: str, state: str, of: Mapping[str, Any], absent: str = "–") -> list[str]:
    return [
        slot,
        state,
        _flight(of, absent),
        _number(of.get("rate"), absent, 1),
        *(_number(of.get(name), absent) for name in SUMS[2:]),
        milliseconds(of.get("late_p50_ms")) if "late_p50_ms" in of else absent,
        milliseconds(of.get("late_p99_ms")) if "late_p99_ms" in of else absent,
        str(of.get("link", absent)) + (", careful" if of.get("careful") else ""),
    ]


def _flight(of: Mapping[str, Any], absent: str) -> str:
    if "in_flight" not in of:
        return absent
    return f"{of['in_flight']}/{of['prefetch']}" if "prefetch" in of else str(of["in_flight"])


def _number(value: Any, absent: str, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else absent


def _total(slots: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [slot["statistics"].get(name) for slot in slots]
    return sum(value for value in values if isinstance(value, int | float))
