"""What `notifier dev` shows: one line per merchant, one column per rung of the ladder, as the samples climb."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from notifier.processes.dev import Attempt, Climb

_MARKS = {"complete": ("✓", "green"), "next-tier": ("✗", "yellow"), "exhausted": ("✗", "red"), "stopped": ("■", "red")}


class LadderView:
    """A rich renderable over climbs that change; rendered anew at each refresh.

    headline: what runs where. hints: lines below the table. climbs: the live list, oldest first.
    """

    def __init__(self, headline: str, rungs: Sequence[str], climbs: Sequence[Climb], hints: Sequence[str]) -> None:
        self._headline = headline
        self._rungs = rungs
        self._climbs = climbs
        self._hints = hints

    def __rich__(self) -> RenderableType:
        return Group(
            Text(self._headline, style="bold"),
            Text(),
            self._table(),
            Text(),
            *(Text(hint, style="dim", overflow="fold") for hint in self._hints),
        )

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("merchant", no_wrap=True)
        table.add_column("answers", style="dim", no_wrap=True)
        for place, rung in enumerate(self._rungs, start=1):
            table.add_column(f"{place}. after {rung}", no_wrap=True, min_width=11)
        table.add_column("", no_wrap=True)
        for climb in self._climbs[-20:]:
            table.add_row(climb.merchant, climb.answers, *self._cells(climb), _standing(climb))
        return table

    def _cells(self, climb: Climb) -> list[Text]:
        cells = [_attempted(attempt) for attempt in climb.attempts[: len(self._rungs)]]
        if climb.result is None and len(cells) < len(self._rungs):
            left = climb.due - time.time()
            cells.append(Text(f"… {max(left, 0):.1f} s", style="cyan"))
        return cells + [Text("·", style="dim")] * (len(self._rungs) - len(cells))


def plain_line(climb: Climb, attempt: Attempt) -> str:
    """The same for a pipe or a file: one line per attempt."""
    late = "" if attempt.late_ms is None else f", {attempt.late_ms:.0f} ms late"
    return (
        f"{attempt.started}  {climb.merchant:<8} attempt {attempt.number} after {attempt.tier:<4} "
        f"{_answer(attempt):<8} {attempt.decision}{late}"
    )


def _attempted(attempt: Attempt) -> Text:
    mark, style = _MARKS.get(attempt.decision, ("?", "red"))
    late = "" if attempt.late_ms is None else f" +{attempt.late_ms:.0f}ms"
    return Text.assemble((f"{mark} {_answer(attempt)}", style), (late, "dim"))


def _answer(attempt: Attempt) -> str:
    return str(attempt.status or attempt.error or "")


def _standing(climb: Climb) -> Text:
    match climb.result:
        case None:
            return Text("climbing", style="cyan")
        case "complete":
            return Text("acknowledged", style="green")
        case "exhausted":
            return Text("exhausted, kept with its payload", style="red")
        case other:
            return Text(other, style="red")
