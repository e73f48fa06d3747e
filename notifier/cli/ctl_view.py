"""The page of `notifier ctl status`: what is wrong, the processes, what operators have set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from notifier.cli import ctl_rest, ctl_spans, ctl_trouble
from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_events import print_line
from notifier.cli.ctl_targets import covers
from notifier.cli.table import table_lines

#: Keys that the service sets for its own processes, by how they begin: nothing that an operator set. Of breakers and
#: overflows there are lines of their own.
OWN_KEYS = ("registry", "breaker/", "overflow/", "told/")
#: Overrides that are shown; a service may have blocked thousands of merchants.
SHOWN = 30
_SLOTS = [
    "SLOT", "STATE", "PID", "UP", "EPOCH", "VERSION", "IN FLIGHT", "LATE P99", "PAUSED", "RESTARTS",
]  # fmt: skip
_NUMBERS = ("PID", "UP", "EPOCH", "VERSION", "IN FLIGHT", "LATE P99")


def print_page(status: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Print it; what is wrong in colour, on a terminal."""
    print_line(headline(status, now))
    for trouble in ctl_trouble.of_service(status, now):
        print_line(f"! {trouble.sentence}", "red" if trouble.bad else "yellow")
    for sentence in ctl_rest.sentences(entries, now):
        print_line(f"! {sentence}", "yellow")
    typer.echo("\n" + "\n".join(slot_lines(status["slots"], entries, now)))
    if by_operators := [entry for entry in entries if not entry["key"].startswith(OWN_KEYS)]:
        typer.echo("\n" + "\n".join(entry_lines(by_operators, now)))


def headline(status: Mapping[str, Any], now: datetime) -> str:
    """The service in one line."""
    counted = Counter(slot["state"] for slot in status["slots"])
    ready = counted.pop("ready", 0)
    others = "".join(f", {count} {state}" for state, count in counted.most_common())
    up = ctl_spans.spelled((now - ctl_spans.read(status["since"])).total_seconds())
    return (
        f"{ready} of {len(status['slots'])} processes ready{others}"
        f"; up {up}, master pid {status['pid']}, version {status['version']}"
    )


def slot_lines(slots: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """One row per slot. A dash: there is nothing to say."""
    pauses = [entry for entry in entries if entry["key"].startswith("pause/")]
    return table_lines(_SLOTS, [_slot(slot, pauses, now) for slot in slots], right=_NUMBERS)


def entry_lines(entries: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """What operators have set, the newest first."""
    newest = list(reversed(entries))
    rows = [
        [
            meaning(entry["key"], entry["value"]),
            visible(entry["who"].partition(" pid=")[0]),  # of a command that has ended; the log has it
            ctl_spans.moment(entry["since"], now),
            _end(entry, now),
            visible(entry["why"] or "–"),
        ]
        for entry in newest[:SHOWN]
    ]
    lines = table_lines(["SET BY OPERATORS", "WHO", "SINCE", "UNTIL", "WHY"], rows)
    left = len(newest) - SHOWN
    return [*lines, f"and {left} older ones: notifier ctl status --json"] if left > 0 else lines


def meaning(key: str, value: Any) -> str:
    """What a key and its value mean: `pause tier:5s`, `tier:5s prefetch = 50`."""
    match key.split("/", 2):
        case ["pause" | "block" as verb, *names] if names:
            return visible(f"{verb} {'/'.join(names)}")
        case ["set", group, name]:
            return visible(f"{group} {name} = {value}")
        case ["log-level", group]:
            return visible(f"{group} log level = {value}")
    return visible(f"{key} = {json.dumps(value, ensure_ascii=False)}")[:80]


def _slot(slot: Mapping[str, Any], pauses: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    of = slot["statistics"]
    return [
        slot["slot"],
        f"{slot['state']}, retired" if of.get("retired") else slot["state"],
        _or_dash(slot["pid"]),
        "–" if slot["uptime"] is None else ctl_spans.spelled(slot["uptime"]),
        str(slot["epoch"]),
        _version(slot),
        f"{of['in_flight']}/{of['prefetch']}" if {"in_flight", "prefetch"} <= of.keys() else "–",
        ctl_spans.milliseconds(of.get("late_p99_ms")),
        "; ".join(_paused(slot, pauses, now)) or "–",
        str(slot["restarts"]) + (f", last: {visible(slot['reason'])}" if slot["reason"] else ""),
    ]


def _version(slot: Mapping[str, Any]) -> str:
    if slot["applied"] is None:
        return "–"
    return str(slot["wanted"]) if slot["applied"] >= slot["wanted"] else f"{slot['applied']} of {slot['wanted']}"


def _paused(slot: Mapping[str, Any], pauses: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    for entry in pauses:
        if covers(entry["key"].partition("/")[2], slot):
            until = f" until {ctl_spans.moment(entry['until'], now)}" if entry["until"] else ""
            yield f"by {visible(entry['who'].split(' ')[0])}{until}"


def _end(entry: Mapping[str, Any], now: datetime) -> str:
    if entry["until"] is None:
        return "taken back"
    left = (ctl_spans.read(entry["until"]) - now).total_seconds()
    return f"{ctl_spans.moment(entry['until'], now)}, {ctl_spans.spelled(left)} left"


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)
