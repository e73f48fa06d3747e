"""The last minutes of attempts, by tier, for the curves; the ledger is asked only for what is not known yet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from notifier.api.pages.charts import Curve, curve
from notifier.ledger.database import Database
from notifier.ledger.flow import flow

#: Milliseconds of one point of a curve, and how many there are: five minutes.
SPAN = 5_000
SPANS = 60
#: Milliseconds after which nothing more is expected to come in for a span.
SETTLED = 20_000

#: Span → delivered, failed.
Counts = dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Lines:
    """The two curves of one drawing. peak: attempts a second at its top. reach: seconds that it shows."""

    done: Curve
    failed: Curve
    peak: float
    reach: float


class Course:
    """Remembers what it has read. One for the application."""

    def __init__(self) -> None:
        self._tiers: dict[str, Counts] = {}
        self._known = 0  # first span that is not settled
        self._one_at_a_time = asyncio.Lock()

    async def read(self, database: Database, now_ms: int) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Delivered and failed attempts of each tier that had any, span by span, oldest first; the span that runs is
        left out. Raises DatabaseUnavailable.
        """
        end = now_ms // SPAN
        first = end - SPANS
        async with self._one_at_a_time:
            start = max(first, self._known)
            for counts in self._tiers.values():
                for span in [span for span in counts if span < first or span >= start]:
                    del counts[span]
            for part in await flow(database, start * SPAN, SPAN, until_ms=end * SPAN):
                self._tiers.setdefault(part.tier, {})[part.span] = (part.delivered, part.failed)
            self._known = (now_ms - SETTLED) // SPAN
            return {
                tier: [counts.get(span, (0, 0)) for span in range(first, end)]
                for tier, counts in self._tiers.items()
                if counts
            }


def lines(course: Sequence[tuple[int, int]], at_least: float = 1.0) -> Lines:
    """The drawing of a course. at_least: attempts a second that the full height stands for at the least."""
    seconds = SPAN / 1000
    done = [delivered / seconds for delivered, _ in course]
    failed = [failures / seconds for _, failures in course]
    peak = max([*done, *failed, at_least])
    return Lines(curve(done, peak, SPANS), curve(failed, peak, SPANS), peak, SPANS * seconds)


def together(courses: Mapping[str, Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """All tiers' courses added up."""
    added = [(0, 0)] * SPANS
    for course in courses.values():
        added = [(a + c, b + d) for (a, b), (c, d) in zip(added, course, strict=True)]
    return added
