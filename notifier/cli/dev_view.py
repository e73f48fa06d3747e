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

    rungs: names of the ladder's tiers. climbs: the live list, oldest first. columns: of the terminal; a narrow one
    is spared the scripts and the latenesses.
    """

    def __init__(self, rungs: Sequence[str], climbs: Sequence[Climb], columns: int) -> None:
        self._rungs = rungs
        self._climbs = climbs
        self._wide = columns >= 35 + 13 * len(rungs)

    def __rich__(self) -> RenderableType:
        return Group(Text(), self._table(), Text())

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("merchant", no_wrap=True)
        if self._wide:
            table.add_column("answers", style="dim", no_wrap=True)
        for rung in self._rungs:
            table.add_column(f"after {rung}", no_wrap=True, min_width=11 if self._wide else 7)
        table.add_column("", no_wrap=True)
        for climb in self._climbs[-20:]:
            answers = [climb.answers] if self._wide else []
            table.add_row(climb.merchant, *answers, *self._cells(climb), _standing(climb))
        return table

    def _cells(self, climb: Climb) -> list[Text]:
        cells = [_attempted(attempt, self._wide) for attempt in climb.attempts[: len(self._rungs)]]
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


def _attempted(attempt: Attempt, wide: bool) -> Text:
    mark, style = _MARKS.get(attempt.decision, ("?", "red"))
    late = "" if attempt.late_ms is None or not wide else f" +{attempt.late_ms:.0f}ms"
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
            return Text("exhausted", style="red")
        case other:
            return Text(other, style="red")
