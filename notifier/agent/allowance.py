"""How much of each merchant may be released now: what its breaker, a window and its rate leave.

The window is what a tier process would call at once: so what is released is attempted soon, in order, and is not held
again for want of room. A tier that is short of room takes less of a slow merchant than that. Then some come back, and
the window is what did not, and a little more with every second: what is held for room must not travel to and fro.

What counts as on its way is the ledger's to say (`ledger.holding.on_their_way`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from notifier.agent.breakers import Breakers
from notifier.agent.pace import Pace
from notifier.domain.merchant import Merchant
from notifier.ledger.holding import OnTheirWay
from notifier.sections import Isolation

#: Most of one merchant at a time.
PIECE = 100
#: By how much a window grows in a second that was smaller than the merchant's bound.
GROWTH = 1.0
#: Merchants whose rate is remembered, before those are forgotten that have rested.
_MOST_PACES = 1000


@dataclass(slots=True)
class _Narrow:
    """The window of a merchant to whom some came back. since: when the newest of those had been released, Unix
    milliseconds.
    """

    window: float
    since: int


class Allowance:
    """isolation: for merchants that state no bounds of their own. clock: Unix seconds; steady: seconds, for rates."""

    def __init__(
        self,
        isolation: Isolation,
        breakers: Breakers,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._isolation = isolation
        self._breakers = breakers
        self._clock = clock
        self._steady = steady
        self._on_their_way: Counter[str] = Counter()
        self._paces: dict[str, tuple[float, Pace]] = {}
        self._narrow: dict[str, _Narrow] = {}
        self._began = steady()
        self.next: float | None = (
            None  # seconds until somebody who had to wait in this round may go on, if that is known
        )

    def begin(self, on_their_way: OnTheirWay) -> None:
        """A round begins, with so many of each merchant released and not attempted yet."""
        self._on_their_way = Counter(on_their_way.counts)
        self._narrow_down(on_their_way)
        self.next = None
        if len(self._paces) > _MOST_PACES:
            self._paces = {merchant: kept for merchant, kept in self._paces.items() if not kept[1].rested}

    def take(self, merchant: str, known: Merchant | None) -> int:
        """How many may go on now, at most PIECE; they count as gone until `gone` says how many it were."""
        due = self._breakers.due(merchant)
        if due is not None and self._clock() < due:
            return self._later(due - self._clock())
        room = 1 if due is not None else min(PIECE, self._window(merchant, known) - self._on_their_way[merchant])
        pace = self._pace(merchant, known)
        if room <= 0 or pace is None:
            return max(0, room)
        return pace.take(room) or self._later(pace.pause)

    def gone(self, merchant: str, taken: int, released: int) -> None:
        """So many of those that might go have gone."""
        self._on_their_way[merchant] += released
        if merchant in self._paces:
            self._paces[merchant][1].give_back(taken - released)
        due = self._breakers.due(merchant)
        if released and due is not None:
            self._breakers.probed(merchant, due)

    def _window(self, merchant: str, known: Merchant | None) -> int:
        most = (known.concurrency if known else None) or self._isolation.concurrency
        narrow = self._narrow.get(merchant)
        return most if narrow is None else min(most, int(narrow.window))

    def _narrow_down(self, on_their_way: OnTheirWay) -> None:
        """Once for each time that some came back; then it grows, until nothing of the merchant is on its way."""
        now, before = self._steady(), self._began
        self._began = now
        self._narrow = {
            merchant: _Narrow(narrow.window + (now - before) * GROWTH, narrow.since)
            for merchant, narrow in self._narrow.items()
            if merchant in on_their_way.counts
        }
        for merchant, released_at in on_their_way.back.items():
            narrow = self._narrow.get(merchant)
            if narrow is None or narrow.since < released_at:
                self._narrow[merchant] = _Narrow(max(1.0, on_their_way.inside.get(merchant, 0)), released_at)

    def _pace(self, merchant: str, known: Merchant | None) -> Pace | None:
        """The bucket of the merchant's rate; a new one when the rate is another."""
        rate = (known.rate if known else None) or self._isolation.rate
        if rate is None:
            self._paces.pop(merchant, None)
            return None
        if merchant not in self._paces or self._paces[merchant][0] != rate:
            self._paces[merchant] = (rate, Pace(rate, self._steady))
        return self._paces[merchant][1]

    def _later(self, seconds: float) -> int:
        self.next = seconds if self.next is None else min(self.next, seconds)
        return 0
