"""What the API process itself does, counted for its heartbeat and for /metrics."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

#: Seconds over which rates are taken.
RATE_OVER = 10.0


class Activity:
    """Counts since the start of the process. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = 0
        self.accepted = 0
        self.refused = 0
        self.streams = 0
        self._clock = clock
        self._readings: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def rates(self) -> tuple[float, float]:
        """Requests and accepted notifications a second, over the last ten seconds as far as this was called."""
        now = self._clock()
        while len(self._readings) > 1 and now - self._readings[1][0] >= RATE_OVER:
            self._readings.popleft()
        began, requests, accepted = self._readings[0]
        if now - self._readings[-1][0] >= 0.5:
            self._readings.append((now, self.requests, self.accepted))
        if now <= began:
            return 0.0, 0.0
        return (
            round((self.requests - requests) / (now - began), 1),
            round((self.accepted - accepted) / (now - began), 1),
        )
