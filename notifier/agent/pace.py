"""A bound on how much is done per second, for what is released and replayed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Seconds of work that may be done at once after a rest.
_BURST = 0.25


class Pace:
    """Lets `rate` things a second pass. clock: seconds, steady."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._room = max(1.0, rate * _BURST)
        self._since = clock()

    def take(self, wanted: int) -> int:
        """How many of `wanted` may be done now, 0 to all of them; they count as done."""
        now = self._clock()
        self._room = min(max(1.0, self._rate * _BURST), self._room + (now - self._since) * self._rate)
        self._since = now
        taken = min(wanted, int(self._room))
        self._room -= taken
        return taken

    async def some(self, wanted: int) -> int:
        """Like `take`, but waits until at least one may pass."""
        while True:
            if taken := self.take(wanted):
                return taken
            await asyncio.sleep(self.pause)

    @property
    def rested(self) -> bool:
        """Whether all that may ever be done at once may be done now."""
        return self._room + (self._clock() - self._since) * self._rate >= max(1.0, self._rate * _BURST)

    def give_back(self, unused: int) -> None:
        """So many of those taken were not done."""
        self._room += unused

    @property
    def pause(self) -> float:
        """Seconds until the next one may pass."""
        return max(0.0, (1.0 - self._room) / self._rate)
