"""One merchant's lane in a tier process: what runs for it, what waits its turn, and how fast that goes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from notifier.delivery.bucket import TokenBucket
from notifier.delivery.inflow import Inflow

#: Seconds of a callback, or of waiting for a turn, from which on a lane is slow: only then can it stand in others' way.
#: A whole second, so that a busy machine does not take everybody for slow.
SLOW = 1.0
#: Seconds that a fresh one may wait in a lane that overflows: the rest of SLOW is for what is released, which would be
#: held once more.
BESIDE = SLOW / 2
#: How much the newest callback counts in the average.
_WEIGHT = 0.3


class Refused(Enum):
    """Why there is no turn."""

    #: Sent away: the process gives back what it has not started.
    AWAY = "away"
    #: The merchant has no room here: to be held.
    NO_ROOM = "no-room"


@dataclass(slots=True, eq=False)
class Turn:
    """One callback that may run now. began: seconds of the lane's clock."""

    lane: Lane
    began: float


class Lane:
    """First in, first out. most: callbacks at once. bucket: of callbacks per second, None for no bound. average:
    seconds that a callback took lately, 0 where nothing is known.

    overflowing: some were refused for want of room, and newer ones do not overtake them unless it keeps up. fresh: how
    many come newly. ready: it stands in the round of those that could start one.
    """

    __slots__ = ("_average", "_running", "bucket", "fresh", "merchant", "most", "overflowing", "ready", "waiting")

    def __init__(self, merchant: str, average: float = 0.0) -> None:
        self.merchant = merchant
        self.most = 1
        self.bucket: TokenBucket | None = None
        self.waiting: deque[asyncio.Future[Turn | Refused]] = deque()
        self.overflowing = False
        self.fresh = Inflow()
        self.ready = False
        self._running: dict[Turn, None] = {}
        self._average = average

    def bound(self, most: int, rate: float | None, clock: Callable[[], float]) -> None:
        """The bounds as they are now."""
        self.most = most
        if rate is None:
            self.bucket = None
        elif self.bucket is None or self.bucket.rate != rate:
            self.bucket = TokenBucket(rate, clock=clock)

    @property
    def average(self) -> float:
        """Seconds that a callback took lately, the newest ones most; 0 before the first was over."""
        return self._average

    @property
    def running(self) -> int:
        """Callbacks that run."""
        return len(self._running)

    @property
    def quick(self) -> bool:
        """Whether its last callbacks were over soon."""
        return 0 < self._average <= SLOW

    @property
    def present(self) -> int:
        """What of the prefetch it holds."""
        return len(self._running) + len(self.waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it."""
        return not self._running and not self.waiting and not self.overflowing

    def may_run(self) -> bool:
        """Whether one more callback keeps its own bounds."""
        return len(self._running) < self.most and (self.bucket is None or self.bucket.pause == 0)

    def start(self, now: float) -> Turn:
        """One more runs."""
        turn = Turn(self, now)
        self._running[turn] = None
        if self.bucket is not None:
            self.bucket.take()
        return turn

    def end(self, turn: Turn, now: float) -> None:
        """It is over."""
        del self._running[turn]
        took = now - turn.began
        self._average = took if self._average == 0 else self._average + _WEIGHT * (took - self._average)

    def slow(self, now: float) -> bool:
        """Whether a newcomer would keep its place in the prefetch for long."""
        takes = self._takes(now)
        return takes > SLOW or self._wait(takes) > SLOW

    def keeps_up(self, now: float) -> bool:
        """Whether it carries all that comes newly, and a newcomer now would hardly wait. Where more comes than that,
        who comes later must not go first; else nothing is gained by holding it.
        """
        takes = self._takes(now)
        if not self.quick or takes > SLOW or self._wait(takes) > BESIDE:
            return False
        carries = self.most / self._average
        if self.bucket is not None:
            carries = min(carries, self.bucket.rate)
        return self.fresh.rate(now) <= carries

    def _takes(self, now: float) -> float:
        """Seconds of a callback, as far as that shows."""
        oldest = next(iter(self._running), None)
        return max(self._average, now - oldest.began if oldest is not None else 0.0)

    def _wait(self, takes: float) -> float:
        """Seconds until a newcomer has its turn."""
        wait = max(0, self.present - self.most + 1) * takes / self.most
        if self.bucket is not None:
            wait = max(wait, self.bucket.pause + len(self.waiting) / self.bucket.rate)
        return wait
