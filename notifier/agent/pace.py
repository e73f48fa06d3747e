"""A bound on how much is done per second, for what is released and replayed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from notifier.delivery.bucket import TokenBucket

#: Seconds of work that may be done at once after a rest.
_BURST = 0.25
#: Seconds of work that may be on its way to the broker at the same moment.
_TOGETHER = 0.01


class Pace(TokenBucket):
    """Lets `rate` things a second pass. clock: seconds, steady.

    together: held while one is published. Twenty that come to a tier process in the same millisecond keep what is due
    just then waiting for as long as twenty callbacks take to begin.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(rate, rate * _BURST, clock)
        self.together = asyncio.Semaphore(max(1, int(rate * _TOGETHER)))

    async def some(self, wanted: int) -> int:
        """Like `take`, but waits until at least one may pass."""
        while True:
            if taken := self.take(wanted):
                return taken
            await asyncio.sleep(self.pause)
