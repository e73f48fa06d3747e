"""The control line: what counts as an answer, and its figures beside what they have to be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import Arrival, Spread, percentile


@dataclass(frozen=True, slots=True)
class ControlFigures:
    """What was measured of the control line, one value each time; docs/benchmarks.md says what each means.

    push_ms: from a request to its answer. ready_again_s: from kill -9 to ready. *_mb: 10^6 bytes.
    delivered_per_s: notifications a second that arrived while the pushes went on. others_share: as in `Figures`.
    """

    push_ms: Sequence[float]
    ready_again_s: Sequence[float]
    tier_pss_mb: Sequence[float]
    master_pss_mb: Sequence[float]
    delivered_per_s: float
    others_share: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. judged: the value that has to be below `target`, if there is one."""

    name: str
    title: str
    form: str
    spread: Spread | None
    judged: float
    target: float | None

    @property
    def verdict(self) -> str:
        """`met` or `missed`; nothing where there is no target."""
        return "" if self.target is None else "met" if self.judged < self.target else "missed"


def wrong_answer(slots: Collection[str], answer: Mapping[str, Any]) -> str | None:
    """One line about what is wrong with the answer to a push; None if exactly these slots applied it and it is kept."""
    results = {str(each.get("slot")): str(each.get("error") or each.get("result")) for each in answer["slots"]}
    told = [f"{slot} did not answer" for slot in sorted(set(slots) - results.keys())]
    told += [f"{slot}, which is not known, answered" for slot in sorted(results.keys() - set(slots))]
    told += [f"{slot} answered {result}" for slot, result in sorted(results.items()) if result != "applied"]
    if answer.get("saved") is not True:
        told.append("the master could not keep it")
    return ", ".join(told) or None


def rate_between(arrivals: Iterable[Arrival], began: float, ended: float) -> float:
    """Arrivals a second between two moments, Unix seconds."""
    if ended <= began:
        raise ValueError("a rate needs two moments, the later one last")
    return sum(began <= arrival.at < ended for arrival in arrivals) / (ended - began)


def lines(figures: ControlFigures) -> list[Line]:
    """Every figure with its target (issue 3). A target that is no median is one for the worst value."""
    push = Spread.of(figures.push_ms)
    return [
        Line("push_ms", f"push ms, of {len(figures.push_ms)}; the median counts", ".1f", push, push.median, 10),
        Line("push_p99_ms", "push ms, p99", ".1f", None, percentile(figures.push_ms, 0.99), None),
        Line("delivered_per_s", "delivered/s meanwhile", ".0f", None, figures.delivered_per_s, None),
        _worst("ready_again_s", "kill -9 until ready, s", ".2f", figures.ready_again_s, 1.5),
        _worst("tier_pss_mb", "memory MB (PSS), idle tier process", ".1f", figures.tier_pss_mb, 45),
        _worst("master_pss_mb", "memory MB (PSS), idle master", ".1f", figures.master_pss_mb, 40),
    ]


def rows(figures: ControlFigures) -> list[list[str]]:
    """The cells of the table, its head first."""
    return [["control line", "median (min-max)", "target", ""], *(_cells(line) for line in lines(figures))]


def summary(figures: ControlFigures) -> dict[str, Any]:
    """All values, and per figure what the table says, as JSON values."""
    return {
        "values": asdict(figures),
        "figures": {
            line.name: {
                **({} if line.spread is None else asdict(line.spread)),
                "judged": line.judged,
                "target": line.target,
                "met": None if line.target is None else line.verdict == "met",
            }
            for line in lines(figures)
        },
    }


def _worst(name: str, title: str, form: str, values: Sequence[float], target: float) -> Line:
    spread = Spread.of(values)
    return Line(name, f"{title}, of {len(values)}", form, spread, spread.most, target)


def _cells(line: Line) -> list[str]:
    measured = f"{line.judged:{line.form}}" if line.spread is None else line.spread.shown(line.form)
    return [line.title, measured, "-" if line.target is None else f"under {line.target:g}", line.verdict]
