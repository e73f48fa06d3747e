"""A bound on how much is done per second, for what is released and replayed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from notifier.delivery.bucket import TokenBucket

#: Seconds of work that may be done at once after a rest.
_BURST = 0.25
#: Of the time that one has at this rate: so long nothing else goes to the broker after one. Less than all of it, for
#: what is done between two pieces must be made up for.
_APART = 0.8
#: Seconds that a timer of the event loop may be off; what is closer together than that goes without one.
_GRAIN = 0.001
#: No turn is waited for longer than this, seconds: at low rates it is the bucket that keeps them.
_LONGEST = 0.25


class Pace(TokenBucket):
    """Lets `rate` things a second pass. clock: seconds, steady. waited: seconds that turns were waited for, so far."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(rate, rate * _BURST, clock)
        self.waited = 0.0
        self._next = clock()
        self._turns = asyncio.Lock()

    async def some(self, wanted: int) -> int:
        """Like `take`, but waits until at least one may pass."""
        while True:
            if taken := self.take(wanted):
                return taken
            await asyncio.sleep(self.pause)

    async def turn(self) -> None:
        """Wait until one may be published, evenly apart from the one before it.

        Ten that come to a tier process within a few milliseconds keep what is due just then waiting for as long as ten
        callbacks take to begin, while the broker and this process want the cores, too.
        """
        async with self._turns:  # in the order in which they came, which timers alone do not keep
            wait = min(self._next - self._clock(), _LONGEST)
            if wait > _GRAIN:
                await asyncio.sleep(wait)
                self.waited += wait
            self._next = max(self._next, self._clock()) + _APART / self.rate
