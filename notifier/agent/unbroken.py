"""For how long something has gone on without a break, by two clocks that agree."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds without a sign after which it counts as broken off; and by which the clocks may drift apart before one of
#: them counts as set.
BREAK, DRIFT = 60.0, 60.0


class Unbroken:
    """Of one thing. clock: Unix seconds, which somebody may set. steady: seconds."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steady = steady
        self._began: tuple[float, float] | None = None
        self._last = 0.0

    def goes_on(self) -> None:
        """A sign of it."""
        now = self._steady()
        if self._began is None or now - self._last > BREAK or self._was_set():
            self._began = self._clock(), now
        self._last = now

    @property
    def seconds(self) -> float:
        """Since it began, or went on after its last break; 0 while it does not go on, or after a clock was set."""
        now = self._steady()
        if self._began is None or now - self._last > BREAK or self._was_set():
            return 0.0
        return now - self._began[1]

    def _was_set(self) -> bool:
        assert self._began is not None
        return abs((self._clock() - self._began[0]) - (self._steady() - self._began[1])) > DRIFT
