"""Whose turn it is to be called back, so that one merchant never harms another.

Each merchant has a lane, first in, first out, with bounds of its own: callbacks at once, and per second. Turns go round
between the lanes, so nobody's many keep another's one waiting. A lane that is slow may hold only a share of the
prefetch that is free just now (a dynamic threshold, as switches share their buffers): the more of them there are, the
less each gets, and there is always room left for who is quick. What has no room is told so, the newest first, to be
held; from then on the lane overflows: fresh ones are told so, too, until what was held before them has gone its way, or
the lane keeps up with all that comes. What is held goes a longer way than what is not, and never more than so many a
second of all merchants together: a lane that waited for it, however quick, might wait for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from notifier.delivery.bucket import TokenBucket
from notifier.delivery.lane import SLOW, Lane, Refused, Turn

#: Lanes without anybody in them that are kept; and merchants whose lanes were slow when they were forgotten. Who is not
#: known to be slow waits in the process until it shows: with thousands of merchants that hang all would be new each
#: time, and together keep everybody's place. 100 bytes each.
_KEPT, _SLOW_KNOWN = 1000, 50_000
#: Of the prefetch, what slow lanes leave alone whatever their share.
_RESERVE = 0.1
#: Seconds between two looks at who waits.
_LOOK = SLOW / 4


class Turns:
    """The lanes of one process.

    in_hand: deliveries in this process. share: of the free prefetch, for a slow lane; 1 is no bound. overflowed: hears
    of a lane that begins to overflow; whoever hears it calls `drained` when that is over. patient: all wait, none is
    refused for want of room. worth: how many of a merchant's callbacks at once make sense just now, of so many that its
    bound lets be. clock: seconds, steady.
    """

    def __init__(
        self,
        in_hand: Callable[[], int],
        prefetch: int,
        share: float,
        overflowed: Callable[[str], None],
        *,
        patient: bool = False,
        worth: Callable[[str, int], int] = lambda merchant, most: most,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.prefetch = prefetch
        self._in_hand = in_hand
        self._share = share
        self._overflowed = overflowed
        self._bounded = share < 1 and not patient
        self._worth = worth
        self._clock = clock
        self._most: int | None = None
        self._bucket: TokenBucket | None = None
        self._taken = 0
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._slow: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, Lane] = {}
        self._round: deque[Lane] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def most(self) -> int | None:
        """Callbacks at once in this process; None for no bound of its own, since the prefetch is one."""
        return self._most

    @property
    def rate(self) -> float | None:
        """Callbacks a second in this process; None for no bound."""
        return None if self._bucket is None else self._bucket.rate

    @property
    def overflowing(self) -> list[str]:
        """The merchants whose lanes overflow."""
        return [lane.merchant for lane in self._lanes.values() if lane.overflowing]

    def limit(self, most: int | None) -> None:
        """Another bound on callbacks at once from now on. What runs beyond a lower one finishes."""
        self._most = most
        self._let_in()

    def pace(self, rate: float | None) -> None:
        """Another bound on callbacks a second from now on."""
        self._bucket = None if rate is None else TokenBucket(rate, clock=self._clock)
        self._let_in()

    async def mine(
        self,
        merchant: str,
        most: int | None = None,
        rate: float | None = None,
        *,
        released: bool = False,
    ) -> Turn | Refused:
        """Wait for a turn of this merchant, to be ended with `over`.

        most, rate: the merchant's bounds; None for no bound. released: it was held and has its place in the order.
        """
        lane = self._lane(merchant)
        lane.bound(most or self.prefetch, rate, self._clock)
        if self._bounded and self._has_no_room(lane, released):
            return Refused.NO_ROOM
        if not lane.waiting and not self._round and self._may_start(lane) and self._may_run():
            return self._start(lane)
        turn: asyncio.Future[Turn | Refused] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        self._waiting[merchant] = lane
        self._let_in()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and isinstance(come := turn.result(), Turn):
                self.over(come)  # it had come in the moment of the cancellation
            elif turn in lane.waiting:
                lane.waiting.remove(turn)
            raise

    def over(self, turn: Turn) -> None:
        """A turn is over; the next one comes."""
        self._taken -= 1
        turn.lane.end(turn, self._clock())
        self._let_in()

    def send_away(self) -> None:
        """Nobody who waits gets a turn."""
        for lane in self._waiting.values():
            while lane.waiting:
                _answer(lane.waiting.popleft(), Refused.AWAY)

    def overflows(self, merchant: str) -> None:
        """Another process of the tier, or this one before it died, refused some of this merchant's for want of room."""
        self._lane(merchant).overflowing = True

    def drained(self, merchant: str) -> None:
        """What was refused for want of room has gone its way."""
        if merchant in self._lanes:
            self._lanes[merchant].overflowing = False

    def _lane(self, merchant: str) -> Lane:
        lane = self._lanes.get(merchant)
        if lane is None:
            self._forget()  # before there is one more, which stands empty, too
            lane = self._lanes[merchant] = Lane(merchant, self._slow.pop(merchant, 0.0))
        else:
            self._lanes.move_to_end(merchant)
        return lane

    def _forget(self) -> None:
        """Lanes that stand empty, the longest unused first; of slow ones, how slow they were stays known."""
        if len(self._lanes) < _KEPT:
            return
        for merchant in [merchant for merchant, lane in self._lanes.items() if lane.idle][: len(self._lanes) // 2]:
            lane = self._lanes.pop(merchant)
            if lane.average > SLOW:
                self._slow[merchant] = lane.average
        while len(self._slow) > _SLOW_KNOWN:
            self._slow.popitem(last=False)

    def _has_no_room(self, lane: Lane, released: bool) -> bool:
        now = self._clock()
        if not released:
            lane.fresh.count(now)
            if lane.overflowing and not lane.keeps_up(now):
                return True
        if not lane.slow(now) or lane.present < self._allowance():
            return False
        self._overflow(lane)
        return True

    def _allowance(self, leaving: int = 0) -> int:
        """Deliveries that one slow lane may hold now. leaving: of those in hand, those that were refused just now."""
        free = self.prefetch - self._in_hand() + leaving
        least = 1 if free > self.prefetch * _RESERVE or self.prefetch == 1 else 0
        return max(least, int(self._share * free))

    def _overflow(self, lane: Lane) -> None:
        if not lane.overflowing:
            lane.overflowing = True
            self._overflowed(lane.merchant)

    def _may_start(self, lane: Lane) -> bool:
        """Whether its own bounds leave it one more callback. Those that run cannot be held any more; so a lane may run
        no more than is left free, and until it has proved quick no more than a share of that: no burst to merchants
        that hang, or begin to hang, fills the process before that is known.
        """
        if not lane.may_run():
            return False
        if self._bounded and lane.running:
            free = self.prefetch - self._taken
            if lane.running >= (free if lane.quick else self._share * free):
                return False
        return lane.running < self._worth(lane.merchant, lane.most)

    def _may_run(self) -> bool:
        return (self._most is None or self._taken < self._most) and (self._bucket is None or self._bucket.pause == 0)

    def _start(self, lane: Lane) -> Turn:
        self._taken += 1
        if self._bucket is not None:
            self._bucket.take()
        return lane.start(self._clock())

    def _let_in(self) -> None:
        """Give out the turns that there are, one to each lane in turn; then see who must not wait any longer."""
        for merchant, lane in list(self._waiting.items()):
            if not lane.waiting:
                del self._waiting[merchant]
            self._join(lane)
        while self._round and self._may_run():
            lane = self._round.popleft()
            lane.ready = False
            self._let_one_in(lane)
            self._join(lane)
        self._refuse_late()
        self._look_again()

    def _let_one_in(self, lane: Lane) -> None:
        while lane.waiting and self._may_start(lane):
            turn = lane.waiting.popleft()
            if not turn.done():
                turn.set_result(self._start(lane))
                return

    def _join(self, lane: Lane) -> None:
        if lane.waiting and not lane.ready and self._may_start(lane):
            lane.ready = True
            self._round.append(lane)

    def _refuse_late(self) -> None:
        """Those that came to a lane before it proved slow. A lane that is ready waits for the process's own bounds,
        which is no merchant's fault.
        """
        if not self._bounded:
            return
        now, leaving = self._clock(), 0
        for lane in self._waiting.values():
            if lane.ready or not lane.slow(now):
                continue
            while lane.waiting and lane.present > max(1, self._allowance(leaving)):
                self._overflow(lane)
                _answer(lane.waiting.pop(), Refused.NO_ROOM)
                leaving += 1

    def _look_again(self) -> None:
        """While anybody waits: when a token comes, or a lane may have proved slow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pauses = [_pause(lane.bucket) for lane in self._waiting.values() if lane.waiting]
        if pauses:
            pause = min([*pauses, _pause(self._bucket)])
            self._timer = asyncio.get_running_loop().call_later(pause, self._let_in)


def _pause(bucket: TokenBucket | None) -> float:
    """Seconds until the next look for its sake. Where there is a token it is not what is waited for."""
    return min((bucket.pause if bucket is not None else 0.0) or _LOOK, _LOOK)


def _answer(turn: asyncio.Future[Turn | Refused], answer: Refused) -> None:
    if not turn.done():
        turn.set_result(answer)
