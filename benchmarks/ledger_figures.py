"""The agent and its facts: the figures beside what they have to be. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.errors import BenchmarkFailed

#: Facts a second that the agent takes into SQLite on two cores, its JSON included (issue 4).
TARGET = 5000.0


@dataclass(frozen=True, slots=True)
class LedgerFigures:
    """facts: how many waited in the broker. seconds: in which so many of them (counted) were stored.

    cpu_s: of the agent, for all of them. bytes_each: of the file, for one fact. others_share: as in `Figures`.
    """

    facts: int
    counted: float
    seconds: float
    cpu_s: float
    bytes_each: float
    others_share: float

    @property
    def per_s(self) -> float:
        """Facts stored a second."""
        if self.seconds <= 0:
            raise BenchmarkFailed("a rate needs time to pass")
        return self.counted / self.seconds


def rows(figures: LedgerFigures) -> list[list[str]]:
    """The cells of the table, its head first."""
    verdict = "met" if figures.per_s >= TARGET else "missed"
    return [
        ["ledger on SQLite", "", "target", ""],
        ["facts stored/s by the agent", f"{figures.per_s:,.0f}", f"at least {TARGET:,.0f}", verdict],
        ["facts in all, each stored once", f"{figures.facts:,}", "", ""],
        ["agent CPU ms per fact", f"{1000 * figures.cpu_s / figures.facts:.3f}", "", ""],
        ["kB of the database per fact", f"{figures.bytes_each / 1000:.2f}", "", ""],
    ]


def summary(figures: LedgerFigures) -> dict[str, Any]:
    """Everything as JSON values."""
    return {**asdict(figures), "per_s": figures.per_s, "target": TARGET, "met": figures.per_s >= TARGET}
