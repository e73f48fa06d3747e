"""How much of each merchant may be released now: what its breaker, a window and its rate leave.

The window is at most what a tier process would call at once: so what is released is attempted soon, in order, and is
not held again for want of room. What counts as on its way is the ledger's to say (`ledger.holding.on_their_way`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from notifier.agent.breakers import Breakers
from notifier.agent.pace import Pace
from notifier.agent.window import Window
from notifier.domain.decision import Complete
from notifier.domain.fact import Kind, name_of
from notifier.domain.merchant import Merchant
from notifier.ledger.holding import OnTheWay
from notifier.sections import Isolation

#: Most of one merchant at a time.
PIECE = 100
#: Merchants whose rate is remembered, before those are forgotten that have rested.
_MOST_PACES = 1000
#: Likewise windows.
_MOST_WINDOWS = 1000
_ACKNOWLEDGED = name_of(Complete())


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
        self._on_their_way: dict[str, OnTheWay] = {}
        self._windows: dict[str, Window] = {}
        self._paces: dict[str, tuple[float, Pace]] = {}
        self.next: float | None = (
            None  # seconds until somebody who had to wait in this round may go on, if that is known
        )

    def begin(self, on_their_way: Mapping[str, OnTheWay]) -> None:
        """A round begins, with so many of each merchant released and not attempted yet."""
        self._on_their_way = dict(on_their_way)
        if len(self._windows) > _MOST_WINDOWS:
            now = self._steady()
            self._windows = {of: window for of, window in self._windows.items() if not window.forgettable(now)}
        self.next = None
        if len(self._paces) > _MOST_PACES:
            self._paces = {merchant: kept for merchant, kept in self._paces.items() if not kept[1].rested}

    def take(self, merchant: str, known: Merchant | None) -> int:
        """How many may go on now, at most PIECE; they count as gone until `gone` says how many it were."""
        due = self._breakers.due(merchant)
        if due is not None:
            self._windows.pop(merchant, None)  # once it closes, what came back because it was open says nothing
        if due is not None and self._clock() < due:
            return self._later(due - self._clock())
        room = 1 if due is not None else min(PIECE, self._room(merchant, known))
        pace = self._pace(merchant, known)
        if room <= 0 or pace is None:
            return max(0, room)
        return pace.take(room) or self._later(pace.pause)

    def gone(self, merchant: str, taken: int, released: int) -> None:
        """So many of those that might go have gone."""
        way = self._on_their_way.get(merchant, OnTheWay())
        way = self._on_their_way[merchant] = OnTheWay(way.there + released, way.back)
        if released and merchant in self._windows:
            self._windows[merchant].gone(way, self._steady())
        if merchant in self._paces:
            self._paces[merchant][1].give_back(taken - released)
        due = self._breakers.due(merchant)
        if released and due is not None:
            self._breakers.probed(merchant, due)

    def heard(self, facts: Iterable[Mapping[str, Any]]) -> None:
        """What the ledger has been told, as on the wire: an attempt of a first run may have made room for another."""
        for fact in facts:
            if fact.get("kind") == Kind.ATTEMPTED and fact.get("merchant") in self._windows:
                acknowledged = fact.get("decision") == _ACKNOWLEDGED
                self._windows[fact["merchant"]].ended(acknowledged=acknowledged, released=bool(fact.get("run")))

    def _room(self, merchant: str, known: Merchant | None) -> int:
        """What its window leaves beside what is on its way."""
        most = (known.concurrency if known else None) or self._isolation.concurrency
        way, now = self._on_their_way.get(merchant, OnTheWay()), self._steady()
        window = self._windows.setdefault(merchant, Window(most, now))
        window.look(way, most, now)
        return window.room(way, now)

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
