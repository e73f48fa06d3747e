"""The arithmetic: from what the receiver logged to figures. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.errors import BenchmarkFailed

#: Seconds by which an arrival may seem early although it is not: nginx cuts its clock to the millisecond and reads it
#: once per turn of its loop, and the broker's delays count in whole milliseconds as well.
CLOCK_GRAIN = 0.002


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request at the receiver. at: Unix seconds. attempt: None where the sender numbers none."""

    at: float
    id: str
    attempt: int | None

    @classmethod
    def parse(cls, line: str) -> Arrival:
        """A line of the receiver's log: moment, webhook-id, attempt; `-` for a header that was not sent."""
        parts = line.split(" ")
        try:
            at, webhook_id, attempt = parts
            if webhook_id == "-":
                raise ValueError("no webhook-id")
            return cls(float(at), webhook_id, None if attempt == "-" else int(attempt))
        except ValueError as error:
            raise BenchmarkFailed(f"the receiver logged something that is no arrival: {line!r} ({error})") from None


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the notifications of a run. Each field names ids; the run is right when all are empty."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    foreign: tuple[str, ...]
    early: tuple[str, ...]

    @property
    def wrong(self) -> str | None:
        """One line about what is wrong; None when everything arrived exactly once and not before its moment."""
        told = [
            f"{len(ids):,} {what} (such as {', '.join(ids[:3])})"
            for what, ids in (
                ("lost", self.lost),
                ("arrived more than once", self.doubled),
                ("arrived that nobody sent", self.foreign),
                ("arrived before the due moment", self.early),
            )
            if ids
        ]
        return ", ".join(told) or None


def count(expected: Collection[str], due: Mapping[str, float], arrivals: Iterable[Arrival]) -> Count:
    """Compare what was sent with what arrived. due: Unix seconds, of those whose due moment is known."""
    arrivals = list(arrivals)
    times = Counter(arrival.id for arrival in arrivals)
    return Count(
        lost=tuple(each for each in expected if each not in times),
        doubled=tuple(each for each, often in times.items() if often > 1),
        foreign=tuple(sorted(times.keys() - set(expected))),
        early=tuple(each.id for each in arrivals if each.id in due and each.at < due[each.id] - CLOCK_GRAIN),
    )


def percentile(values: Collection[float], share: float) -> float:
    """The nearest-rank percentile: the least value that at least this share of all values does not exceed."""
    if not values or not 0 < share <= 1:
        raise ValueError("a percentile needs values, and a share above 0 and up to 1")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def rate_of(arrivals: Sequence[Arrival]) -> float:
    """Arrivals a second, from the first to the last: the first one starts the clock and is not counted."""
    moments = [arrival.at for arrival in arrivals]
    if len(moments) < 2 or max(moments) == min(moments):
        raise BenchmarkFailed("a rate needs arrivals at two moments: there was too little to measure")
    return (len(moments) - 1) / (max(moments) - min(moments))


def middle_rate(seen: Sequence[tuple[float, int]], total: int) -> float:
    """How many a second in the middle four fifths of a stream. seen: moments in seconds, each with the number by then.

    The ends are left out: until the first receipt hundreds are already on their way, and while the last ones come in
    nothing is sent any more. Both would flatter a short stream.
    """
    begin = next(((at, n) for at, n in seen if n >= total * 0.1), None)
    end = next(((at, n) for at, n in seen if n >= total * 0.9), None)
    if begin is None or end is None or end[0] <= begin[0]:
        raise BenchmarkFailed("a rate needs receipts at two moments of the middle: there was too little to measure")
    return (end[1] - begin[1]) / (end[0] - begin[0])


def lateness_ms(due: Mapping[str, float], arrivals: Iterable[Arrival]) -> list[float]:
    """Milliseconds between due moment and arrival, of those whose due moment is known; what seems early counts 0."""
    return [max(0.0, (arrival.at - due[arrival.id]) * 1000) for arrival in arrivals if arrival.id in due]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        ordered = sorted(values)
        middle = len(ordered) // 2
        median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(median, ordered[0], ordered[-1])

    def shown(self, form: str) -> str:
        """`median (least-most)`, each number formatted alike."""
        return f"{self.median:{form}} ({self.least:{form}}-{self.most:{form}})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float | None]:
    """Ours by theirs, pair by pair; None where theirs is nothing."""
    return [a / b if b else None for a, b in zip(ours, theirs, strict=True)]
