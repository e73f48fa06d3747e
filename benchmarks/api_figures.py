"""The HTTP API: its figures beside what they have to be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import percentile

#: Accepted notifications a second (issue 4): in batches of 100, and one by one.
MANY_TARGET, ONE_TARGET = 1000.0, 400.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """One way of handing in, for a while. ids: as the API gave them. answer_ms: of each request.

    behind: notifications that were accepted and had not arrived when the last request was answered; drained_s: seconds
    until they had.
    """

    seconds: float
    ids: Sequence[str]
    answer_ms: Sequence[float]
    behind: int
    drained_s: float

    @property
    def per_s(self) -> float:
        """Accepted notifications a second."""
        if self.seconds <= 0:
            raise BenchmarkFailed("a rate needs time to pass")
        return len(self.ids) / self.seconds


@dataclass(frozen=True, slots=True)
class ApiFigures:
    """many: in batches. one: one by one. api_pss_mb: 10^6 bytes, afterwards. others_share: as in `Figures`."""

    many: Accepted
    one: Accepted
    api_pss_mb: float
    others_share: float


def rows(figures: ApiFigures) -> list[list[str]]:
    """The cells of the table, its head first."""
    return [
        ["HTTP API", "in batches of 100", "one by one"],
        ["accepted/s", f"{figures.many.per_s:,.0f}", f"{figures.one.per_s:,.0f}"],
        ["target", f"at least {MANY_TARGET:,.0f}", f"at least {ONE_TARGET:,.0f}"],
        ["", _verdict(figures.many.per_s, MANY_TARGET), _verdict(figures.one.per_s, ONE_TARGET)],
        ["accepted in all", f"{len(figures.many.ids):,}", f"{len(figures.one.ids):,}"],
        ["answer ms, p50", *(f"{percentile(each.answer_ms, 0.5):.1f}" for each in (figures.many, figures.one))],
        ["answer ms, p99", *(f"{percentile(each.answer_ms, 0.99):.1f}" for each in (figures.many, figures.one))],
        ["not yet delivered at the end", f"{figures.many.behind:,}", f"{figures.one.behind:,}"],
        ["s until they were", f"{figures.many.drained_s:.1f}", f"{figures.one.drained_s:.1f}"],
        ["memory MB (PSS), API process", f"{figures.api_pss_mb:.1f}", ""],
    ]


def summary(figures: ApiFigures) -> dict[str, Any]:
    """Everything but the single ids, as JSON values."""
    ways = {
        name: {
            "per_s": way.per_s,
            "target": target,
            "met": way.per_s >= target,
            **{field: value for field, value in asdict(way).items() if field != "ids"},
        }
        for name, way, target in (("many", figures.many, MANY_TARGET), ("one", figures.one, ONE_TARGET))
    }
    return {**ways, "api_pss_mb": figures.api_pss_mb, "others_share": figures.others_share}


def _verdict(value: float, target: float) -> str:
    return "met" if value >= target else "missed"
