"""A bound on how often something happens: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Lets `rate` things a second pass, and after a rest `burst` of them at once. clock: seconds, steady."""

    def __init__(self, rate: float, burst: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._tokens = self._burst
        self._since = clock()

    def take(self, wanted: int = 1) -> int:
        """How many of `wanted` may pass now, 0 to all of them; they count as passed."""
        self._fill()
        taken = min(wanted, int(self._tokens))
        self._tokens -= taken
        return taken

    def give_back(self, unused: int) -> None:
        """So many of those taken did not pass."""
        self._tokens += unused

    @property
    def pause(self) -> float:
        """Seconds until the next one may pass, 0 if it may now."""
        self._fill()
        return max(0.0, (1.0 - self._tokens) / self.rate)

    @property
    def rested(self) -> bool:
        """Whether all that may ever pass at once may pass now."""
        self._fill()
        return self._tokens >= self._burst

    def _fill(self) -> None:
        now = self._clock()
        # a hair more than the exact sum: a pause slept out to the end must never leave 0.9999 of a token
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._since) * self.rate + 1e-9)
        self._since = now
