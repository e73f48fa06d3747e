"""What is held goes on when its reason is gone, the oldest first, and no more at once than its merchant may take.

Looked for every few seconds, at every change of the registry and when a breaker closes, always in the database: so
neither a wake-up nor a `held` fact that arrives after the merchant was enabled can be missed. A notification is taken
in hand, published and confirmed, then marked; whoever dies in between leaves one that is released again later, under
the same `webhook-id`. What no release has reached within its ladder's total and a day is exhausted, and says why it was
held; but not before releases have gone on for an hour.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence

from notifier import logs
from notifier.agent import rebuilding
from notifier.agent.allowance import PIECE, Allowance
from notifier.agent.marking import Marker
from notifier.agent.pace import Pace
from notifier.agent.unbroken import Unbroken
from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology, Way
from notifier.domain import wire
from notifier.domain.decision import admit
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.tier import Tier
from notifier.errors import BrokerError, Conflict, InvalidLadder, Unroutable
from notifier.ledger import holding
from notifier.ledger.database import Database
from notifier.ledger.holding import Stored

#: Seconds of one round, about.
ROUND = 1.0
#: Seconds until the next round: a part of the time since anything went on, between these two. So a merchant that takes
#: long waits for the next release not much longer than it takes, and where nothing goes on little is asked.
SOONEST, LATEST, PART = 0.05, 2.0, 1 / 8
#: And at least so many times as long as the last round took for each that went on: a round that finds little is not
#: repeated at once, since deliveries that are due need the processor, too. So releases that trickle take a twentieth of
#: a processor.
REST = 20
#: But no longer than this, seconds: the bucket of a merchant's rate holds a quarter of a second.
LONGEST_REST = 0.2
#: Beyond the ladder's total, milliseconds: DESIGN §6.
GRACE_MS = 24 * 3600 * 1000
#: Seconds for which rounds must have gone on without a break before anything ends at its deadline. After a day's stop
#: of all agents, or of the database, all that was held is overdue and had no chance: what may go on goes first. At 200
#: a second that is time for 720,000.
CALM = 3600.0
#: Rows looked at in one piece when deadlines are checked.
_PAGE = 500


class Release:
    """Releases what may go on. Only for the agent that holds the lease.

    lookup: the merchant as it is known now, or None. allowance: how much of it may go on. blocked_here: whether an
    operator's override on this machine blocks it. needs_url: whether there is nowhere to call without one. holds:
    whether the lease is still this agent's, asked before anything is published. calm: see CALM. clock: Unix seconds.
    steady: seconds, for rounds.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        topology: Topology,
        marker: Marker,
        pace: Pace,
        lookup: Callable[[str], Merchant | None],
        allowance: Allowance,
        blocked_here: Callable[[str], bool],
        default_ladder: Ladder,
        configured: Collection[Tier],
        *,
        needs_url: bool,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
        holds: Callable[[], bool] = lambda: True,
        calm: float = CALM,
    ) -> None:
        self.released = 0
        self._database = database
        self._publisher = publisher
        self._topology = topology
        self._marker = marker
        self._pace = pace
        self._lookup = lookup
        self._allowance = allowance
        self._blocked_here = blocked_here
        self._default_ladder = default_ladder
        self._configured = configured
        self._needs_url = needs_url
        self._clock = clock
        self._steady = steady
        self._holds = holds
        self._calm = calm
        self._rounds = Unbroken(clock, steady)
        self._next = ""
        self._moved = steady()
        self._took = 0.0

    @property
    def pause(self) -> float:
        """Seconds until the next round is worth it."""
        pause = min(LATEST, (self._steady() - self._moved) * PART)
        if self._allowance.next is not None:
            pause = min(pause, self._allowance.next)
        return max(SOONEST, min(LONGEST_REST, self._took * REST), pause)

    def expect(self) -> None:
        """There may be something to release soon, if not yet."""
        self._moved = self._steady()

    async def round(self) -> int:
        """Release what may go on now, a piece of each merchant in turn; returns how many. Raises DatabaseUnavailable.

        Ends after a moment, so that a merchant whose reason ended meanwhile takes its turn, too.
        """
        began, waited, count = self._steady(), self._pace.waited, 0
        try:
            count = await self._round(began + ROUND)
            self._rounds.goes_on()
        finally:
            self._took = max(0.0, self._steady() - began - (self._pace.waited - waited)) / max(1, count)
        return count

    async def _round(self, end: float) -> int:
        count = 0
        self._allowance.begin(await holding.on_their_way(self._database, self._now_ms()))
        hopeful = await holding.hopeful(self._database, self._now_ms(), needs_url=self._needs_url)
        waiting = deque(in_turn(hopeful, self._next))
        while waiting and self._steady() < end and self._holds():
            rooms = self._rooms(waiting)
            if not rooms:
                break
            asked, piece = await self._piece(rooms)
            gone = await self._go_on(piece) if piece else Counter()
            found = Counter(stored.merchant for stored in piece)
            for merchant, room in rooms.items():
                self._allowance.gone(merchant, room, gone[merchant])
            # whom the rate left nothing is next; who got all that was asked for may have more, and comes last
            waiting.extendleft(merchant for merchant in reversed(rooms) if not asked[merchant])
            waiting.extend(merchant for merchant in rooms if asked[merchant] and found[merchant] == asked[merchant])
            count += gone.total()
        self._next = waiting[0] if waiting else ""
        return count

    def _rooms(self, waiting: deque[str]) -> dict[str, int]:
        """How many of each may go on now, of the next merchants in turn, a piece of them together. Those that are asked
        leave their place.
        """
        rooms: dict[str, int] = {}
        while waiting and sum(rooms.values()) < PIECE:
            merchant = waiting.popleft()
            known = self._lookup(merchant)
            room = self._allowance.take(merchant, known) if self._may_be_called(merchant, known) else 0
            if room:
                rooms[merchant] = room
        return rooms

    async def end_overdue(self) -> int:
        """Exhaust what was held for too long; returns how many. Raises DatabaseUnavailable."""
        count, place = 0, (0, "")
        if self._rounds.seconds < self._calm:
            return 0
        while page := await holding.long_held(self._database, self._now_ms() - GRACE_MS, place, _PAGE):
            place = (page[-1].accepted_at, page[-1].id)
            since = await holding.held_since(self._database, [stored.id for stored in page])
            overdue = [stored for stored in page if self._is_overdue(stored, since.get(stored.id))]
            if not self._holds():
                break
            ended = await self._marker.store([self._exhausted(stored) for stored in overdue]) if overdue else []
            for fact in ended:
                logs.event("exhausted", logging.WARNING, notification=fact.notification, held=fact.body["reason"])
            count += len(ended)
        return count

    def _may_be_called(self, merchant: str, known: Merchant | None) -> bool:
        if self._blocked_here(merchant):
            return False
        # with a url of its own a notification of an unknown merchant may be sent; each one is looked at below
        return admit(Notification(merchant, merchant, b"", url="https://its.own"), known) is None

    async def _piece(self, rooms: Mapping[str, int]) -> tuple[Mapping[str, int], Sequence[Stored]]:
        """How many of each were asked for, by the rate of all together; and those that there are, in hand."""
        left = taken = await self._pace.some(sum(rooms.values()))
        asked = dict.fromkeys(rooms, 0)
        for merchant, room in rooms.items():
            asked[merchant] = min(room, left)
            left -= asked[merchant]
        most = {merchant: number for merchant, number in asked.items() if number}
        piece = await holding.take_in_hand(self._database, most, self._now_ms(), needs_url=self._needs_url)
        self._pace.give_back(taken - len(piece))
        return asked, piece

    async def _go_on(self, piece: Sequence[Stored]) -> Counter[str]:
        """Publish what may go on, then mark what the broker has; how many, by merchant. What does not go on takes
        nothing of the rate.
        """
        known = {merchant: self._lookup(merchant) for merchant in {stored.merchant for stored in piece}}
        publishing = (self._publish(stored, known[stored.merchant]) for stored in piece)
        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        facts = [outcome for outcome in outcomes if isinstance(outcome, Fact)]
        self._pace.give_back(len(piece) - len(facts))
        if facts:
            await self._marker.mark(facts)
            self.released += len(facts)
            self._moved = self._steady()
        if any(isinstance(outcome, Unroutable) for outcome in outcomes):
            self._publisher.declare_again()  # a work queue was deleted
        went = {fact.notification for fact in facts}
        if left := [stored.id for stored in piece if stored.id not in went]:
            await holding.put_back(self._database, sorted(left))
        return Counter(stored.merchant for stored in piece if stored.id in went)

    async def _publish(self, stored: Stored, merchant: Merchant | None) -> Fact | None:
        """The fact that it goes on; None for what stays held. Raises Unroutable."""
        try:
            if self._prepared(stored, merchant, self._now_ms()) is None:  # what does not go on takes no turn
                return None
            await self._pace.turn()
            now_ms = self._now_ms()
            prepared = self._prepared(stored, merchant, now_ms)
            if prepared is None:
                return None
            notification, tier = prepared
            message = wire.write(notification, fresh_message_id())
            await self._publisher.publish_by(Way(self._topology.work, tier.name), message)
        except (Conflict, BrokerError) as error:
            logs.event("unreleased", logging.ERROR, notification=stored.id, why=str(error))
            if isinstance(error, Unroutable):
                raise
            return None
        except Exception as error:  # a fault of ours, of this one alone
            logs.event("failed", logging.ERROR, exc_info=error, notification=stored.id, what="it was not released")
            return None
        logs.event("released", notification=stored.id, merchant=stored.merchant, tier=tier.name, held=stored.stands_why)
        body = {"merchant": stored.merchant, "tier": tier.name, "step": notification.step, "due": now_ms}
        return Fact(Kind.RELEASED, stored.id, notification.run, now_ms, {**body, "reason": stored.stands_why})

    def _prepared(self, stored: Stored, merchant: Merchant | None, now_ms: int) -> tuple[Notification, Tier] | None:
        """As it goes on now, and where; None if it must stay held. Raises Conflict."""
        notification, tier = rebuilding.released(stored, self._configured, now_ms)
        may = admit(notification, merchant, needs_url=self._needs_url) is None and self._holds()
        return (notification, tier) if may else None

    def _is_overdue(self, stored: Stored, since: int | None) -> bool:
        total_ms = self._ladder(stored).total * 1000
        return self._now_ms() > (since if since is not None else stored.accepted_at) + total_ms + GRACE_MS

    def _ladder(self, stored: Stored) -> Ladder:
        try:
            own = Ladder.parse(stored.ladder) if stored.ladder else None
        except InvalidLadder:
            own = None
        merchant = self._lookup(stored.merchant)
        return own or (merchant.ladder if merchant else None) or self._default_ladder

    def _exhausted(self, stored: Stored) -> Fact:
        """In a run of its own: within the one it was held in, it would stay held."""
        detail = f"held for longer than its ladder and 24 h; the reason was: {stored.stands_why}"
        body = {"merchant": stored.merchant, "tier": stored.tier, "reason": stored.stands_why, "detail": detail}
        return Fact(Kind.EXHAUSTED, stored.id, stored.run + 1, self._now_ms(), body)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def in_turn(merchants: Sequence[str], first: str) -> list[str]:
    """In the order of their names, from that one on, and then those before it: so whom a round had no time for is first
    in the next one. first: a merchant, or "" for the first of all.
    """
    names = sorted(merchants)
    begin = bisect_left(names, first)
    return names[begin:] + names[:begin]
