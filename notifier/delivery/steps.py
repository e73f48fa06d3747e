"""Whether the wall clock can be believed: an hour that it was set by is no hour that anybody was late."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds between the wall clock and the steady one that no slewing makes, so it was set.
STEP = 1.0


def steady() -> float:
    """Seconds that no setting of a clock changes; a machine's sleep counts, where the system can tell."""
    which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(which)


class Steps:
    """Notices when the wall clock was set, in either direction, and remembers it for so many seconds.

    memory: how long moments may be under way that the clock gave before. clock: Unix seconds; steady: seconds.
    """

    def __init__(
        self, memory: float, clock: Callable[[], float] = time.time, steady: Callable[[], float] = steady
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._steady = steady
        self._apart = clock() - steady()
        self._until = float("-inf")

    def believed(self) -> bool:
        """Whether a moment of some while ago can be compared with the clock now."""
        now = self._steady()
        apart = self._clock() - now
        if abs(apart - self._apart) >= STEP:
            self._apart, self._until = apart, now + self._memory
        return now >= self._until
