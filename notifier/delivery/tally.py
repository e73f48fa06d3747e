"""What came of the notifications of one process, counted; and how late their attempts were."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

#: Attempts whose lateness is remembered, and for how many seconds.
REMEMBERED = 1000
RECENT = 60.0
#: Seconds over which the rates are taken.
RATE_OVER = 10.0
#: Upper edges of the buckets in which every lateness is counted, milliseconds; the last bucket has none.
EDGES = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)


class Tally:
    """Counts are since the start of the process. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.attempts = 0
        self.completed = 0
        self.failed = 0
        self.held = 0
        self.poisoned = 0
        self.clock_errors = 0
        self._clock = clock
        self._lateness: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._readings: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])
        self._buckets = [0] * (len(EDGES) + 1)
        self._late_ms = 0.0

    def attempted(self, lateness_ms: float | None, *, acknowledged: bool, due: bool = True) -> None:
        """One callback was made. lateness_ms: how long after its due moment it started, where that is known. due: there
        is such a moment; then a lateness that cannot be said is the error of a clock.
        """
        self.attempts += 1
        if acknowledged:
            self.completed += 1
        else:
            self.failed += 1
        if lateness_ms is None:
            self.clock_errors += due
        else:
            self._lateness.append((self._clock(), lateness_ms))
            self._buckets[bisect_left(EDGES, lateness_ms)] += 1
            self._late_ms += lateness_ms

    def read(self) -> Mapping[str, Any]:
        """All of it. rate: attempts a second over the last ten seconds, as far as it was read so often, and of these
        the acknowledged and the failed ones; late: of the last minute, at most the last 1,000 attempts; None without
        any. lateness: of all attempts, counted in buckets up to `EDGES`.

        Meant for one call a second: this is where the cost of the figures lies.
        """
        now = self._clock()
        late = sorted(lateness for moment, lateness in self._lateness if now - moment <= RECENT)
        return {
            "late_p50_ms": _quantile(late, 0.50),
            "late_p99_ms": _quantile(late, 0.99),
            "attempts": self.attempts,
            "completed": self.completed,
            "failed": self.failed,
            "held": self.held,
            "poisoned": self.poisoned,
            "clock_errors": self.clock_errors,
            **self._rates(now),
            "lateness": {
                "buckets": [list(bucket) for bucket in zip((*EDGES, None), self._buckets, strict=True)],
                "sum_ms": round(self._late_ms, 1),
            },
        }

    def _rates(self, now: float) -> Mapping[str, float]:
        while len(self._readings) > 1 and now - self._readings[1][0] >= RATE_OVER:
            self._readings.popleft()
        began, completed, failed = self._readings[0]
        if now - self._readings[-1][0] >= 0.5:
            self._readings.append((now, self.completed, self.failed))
        seconds = now - began
        done = {"completed_rate": self.completed - completed, "failed_rate": self.failed - failed}
        counts = {"rate": sum(done.values()), **done}
        return {name: round(count / seconds, 1) if seconds > 0 else 0.0 for name, count in counts.items()}


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest rank: a value that occurred."""
    if not ordered:
        return None
    return round(ordered[math.ceil(len(ordered) * share) - 1], 1)
