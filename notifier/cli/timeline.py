"""One notification's way up its ladder, as lines for people: what happened, what waits, what is still to come. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from notifier.cli import ctl_spans
from notifier.cli.ctl_answers import visible
from notifier.cli.table import table_lines

#: Statuses of what goes on: its next attempt is shown, and the steps after it.
UNFINISHED = ("accepted", "attempted", "held")
#: Characters of an answer in a row; `--json` has all that was kept.
_SHORT = 100
_HEADS = ["", "STEP", "TIER", "DUE", "STARTED", "LATE", "TOOK", "WHAT CAME OF IT"]
_RIGHT = ("STEP", "LATE", "TOOK")
#: When what is held goes on, by the reason, and what can be done for it.
_GOES_ON = {
    "disabled": "when the merchant is enabled: notifier merchants enable {0}",
    "blocked": "when the block is over: notifier merchants unblock {0}",
    "unknown-merchant": "when there is a url: notifier merchants add (or set) {0} --url …",
    "breaker-open": "when the merchant acknowledges a probe, which is sent now and then: see what it answered",
    "no-room": "as the merchant answers what is before it: notifier merchants set {0} --concurrency … allows it more",
}
_MARKS = {"complete": "✓", "next-tier": "✗", "exhausted": "✗", "stopped": "■", "held": "‖", "poison": "☠"}
_COLOURS = {"✓": "green", "✗": "red", "■": "red", "☠": "red", "‖": "yellow", "◷": "cyan"}
_EVENTS = {
    "accepted": ("•", "accepted"),
    "completed": ("✓", "completed"),
    "exhausted": ("■", "the ladder is used up"),
    "held": ("‖", "held"),
    "stopped": ("■", "stopped"),
    "poisoned": ("☠", "went to the poison queue"),
    "replayed": ("↻", "sent again"),
    "released": ("▸", "released"),
}
#: Ends that the attempt before them tells already.
_TOLD = {"completed": "complete", "exhausted": "exhausted", "stopped": "stopped"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line and its colour, if it has one."""

    text: str
    colour: str | None = None


def lines(notification: Mapping[str, Any], now: datetime) -> list[Line]:
    """The table, its head first. Each run after the first has a line before it."""
    rows = list(_rows(notification, now))
    drawn = table_lines(_HEADS, [cells for _, cells in rows], right=_RIGHT)
    marks = iter([mark for mark, _ in rows])
    coloured, colour = [Line(drawn[0])], None
    for text in drawn[1:]:
        if not text.startswith(" "):  # else what a row had too much for one line
            colour = _COLOURS.get(next(marks))
        coloured.append(Line(text, colour))
    return coloured


def _rows(notification: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, list[str]]]:
    clock = _Clock(notification["accepted_at"])
    steps = len(notification["ladder"] or ())
    happened = sorted(
        [*_attempts(notification, clock, steps), *_events(notification, clock)], key=lambda each: each[:2]
    )
    for run, rows in groupby(happened, key=lambda each: each[0]):
        if run:
            yield "┄", ["┄", "", "", "", "", "", "", f"run {run}"]
        yield from ((row[0], row) for _, _, row in rows)
    if notification["status"] in UNFINISHED:
        yield from ((row[0], row) for row in _to_come(notification, clock, now))


def _attempts(of: Mapping[str, Any], clock: _Clock, steps: int) -> Iterator[tuple[int, tuple[str, int], list[str]]]:
    for attempt in of["attempt_log"]:
        row = [
            _MARKS.get(attempt["decision"], "✗"),
            f"{attempt['step'] + 1}/{steps}" if steps else str(attempt["step"] + 1),
            attempt["tier"],
            clock.time(attempt["due"]),
            clock.time(attempt["started"]),
            ctl_spans.milliseconds(attempt["late_ms"]),
            ctl_spans.milliseconds(attempt["duration_ms"]),
            _came(attempt),
        ]
        yield attempt["run"], (attempt["started"], 0), row


def _events(of: Mapping[str, Any], clock: _Clock) -> Iterator[tuple[int, tuple[str, int], list[str]]]:
    told = {(attempt["run"], attempt["decision"]) for attempt in of["attempt_log"]}
    for event in of["events"]:
        if (event["run"], _TOLD.get(event["kind"])) in told:
            continue
        mark, said = _EVENTS.get(event["kind"], ("•", event["kind"]))
        why = _why(event["reason"] or "", event["detail"] or "")
        by = f" by {visible(event['who'])}" if event["who"] and event["who"] not in why else ""
        row = [
            mark,
            "",
            event["tier"] or "",
            "",
            clock.time(event["at"]),
            "",
            "",
            f"{said}{by}{f' ({why})' * bool(why)}",
        ]
        yield event["run"], (event["at"], 1), row


def _why(reason: str, detail: str) -> str:
    """Details often begin with the reason."""
    return visible(": ".join(part for part in ("" if detail.startswith(reason) else reason, detail) if part))


def _came(attempt: Mapping[str, Any]) -> str:
    answer = visible(" ".join((attempt["answer"] or "").split()))
    answer = f"“{answer[:_SHORT]}{'…' * (len(answer) > _SHORT)}”" if answer else ""
    if attempt["decision"] == "complete":
        parts = [attempt["status"], "acknowledged", answer]
    elif attempt["error"] == "status":
        parts = [attempt["status"], answer or visible(attempt["detail"] or "")]
    else:
        parts = [attempt["error"], attempt["status"], visible(attempt["detail"] or ""), answer]
    return " · ".join(str(part) for part in parts if part not in (None, ""))


def _to_come(of: Mapping[str, Any], clock: _Clock, now: datetime) -> Iterator[list[str]]:
    ladder: Sequence[str] = of["ladder"] or ()
    step = of["step"] or 0
    held = of["status"] == "held"
    if held:
        said = _GOES_ON.get(of["reason"], "when the reason is gone").format(visible(of["merchant"]))
    elif of["due_at"] is None:
        said = "waits"
    else:
        left = (ctl_spans.read(of["due_at"]) - now).total_seconds()
        said = f"in {ctl_spans.spelled(left)}" if left > 0 else f"overdue by {ctl_spans.spelled(-left)}"
    place = f"{step + 1}/{len(ladder)}" if ladder else str(step + 1)
    due = "" if held else clock.time(of["due_at"])
    yield ["‖" if held else "◷", place, of["tier"] or "", due, "", "", "", said]
    for later, tier in enumerate(ladder[step + 1 :], start=step + 2):
        yield ["○", f"{later}/{len(ladder)}", tier, "", "", "", "", f"{tier} after the step before, if that fails"]


class _Clock:
    """Moments as the time of day, to the millisecond; with the date where it is not that of the first one."""

    def __init__(self, first: str) -> None:
        self._day = first.partition("T")[0]

    def time(self, iso: str | None) -> str:
        if iso is None:
            return "–"
        day, _, time = iso.partition("T")
        return time if day == self._day else iso
