"""The report: a row per fault, as JSON and as the table of docs/reliability.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tests.faults.verdict import Verdict, tally

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
#: Violations of a kind that a row names; there may be thousands of the same.
_MOST_SAID = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. recover_*: seconds. per_second: notifications. day: of the run. problem: if it could not be judged.
    took: seconds for all of it, with the service's start and the drain. struck_again: strikes that had no effect, made
    again; they are none of the repeats.
    """

    fault: str
    repeats: int
    sent: int
    lost: int
    early: int
    duplicated: int
    recover_p50: float
    recover_max: float
    violations: Sequence[str] = ()
    problem: str | None = None
    per_second: int = 0
    day: str = ""
    held: int = 0
    took: float = 0.0
    struck_again: int = 0

    @property
    def good(self) -> bool:
        """Whether it was judged and every promise was kept."""
        return not self.violations and self.problem is None

    @classmethod
    def of(cls, fault: str, repeats: int, verdict: Verdict, struck_again: int = 0) -> Row:
        """From a verdict."""
        said: list[str] = []
        for kind, count in tally(verdict).items():
            some = [each for each in verdict.violations if each.startswith(f"{kind}: ")][:_MOST_SAID]
            said += some
            if count > len(some):
                said.append(f"{kind}: … and {count - len(some)} more")
        return cls(
            fault,
            repeats,
            verdict.sent,
            verdict.lost,
            verdict.early,
            verdict.duplicated,
            round(statistics.median(verdict.recovered), 1),
            round(max(verdict.recovered), 1),
            tuple(said),
            held=verdict.held,
            struck_again=struck_again,
        )

    @classmethod
    def unjudged(cls, fault: str, problem: str) -> Row:
        """Of a fault that did not bite, or from which the service did not recover."""
        return cls(fault, 0, 0, 0, 0, 0, 0.0, 0.0, (), problem)


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """For a file."""
    return [asdict(row) for row in rows]


def read(text: str) -> list[Row]:
    """What `as_json` made, from a file."""
    return [Row(**{**row, "violations": tuple(row["violations"])}) for row in json.loads(text)]


def merged(old: Sequence[Row], new: Sequence[Row], order: Sequence[str]) -> list[Row]:
    """The new rows, and the old ones of faults that were not run now. order: names of all faults."""
    by_name = {row.fault: row for row in [*old, *new]}
    return [by_name[name] for name in order if name in by_name]


def markdown(rows: Sequence[Row]) -> str:
    """The table, with a line above that says how it was made."""
    days = sorted({row.day for row in rows if row.day})
    rates = sorted({row.per_second for row in rows if row.per_second})
    lines = [
        f"Made by `make faults` on {' and '.join(days)}, at {' and '.join(map(str, rates))} notifications per second.",
        "",
        "| fault | repeats | sent | lost | early | duplicated | held | recovered s: p50 | max | |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {row.fault} | {row.repeats} | {row.sent:,} | {row.lost} | {row.early} | {row.duplicated} | {row.held} "
        f"| {row.recover_p50:.1f} | {row.recover_max:.1f} | {_remark(row)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _remark(row: Row) -> str:
    again = f"{row.struck_again} struck again" if row.struck_again else ""
    return again if row.good else "FAILED"


def between_markers(page: str, table: str) -> str:
    """The page with the table in its place. Raises ValueError when the markers are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
