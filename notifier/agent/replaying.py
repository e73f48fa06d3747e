"""Sending again: one notification, or all that match a filter, as a job whose memory is its row in the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from notifier import logs
from notifier.agent import rebuilding
from notifier.agent.marking import Marker
from notifier.agent.pace import Pace
from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology
from notifier.domain import wire
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.domain.tier import Tier
from notifier.errors import Conflict, InvalidInput, MessageTooLarge, NotFound, NotifierError, Unroutable
from notifier.ledger import holding, notifications, replays
from notifier.ledger.database import Database
from notifier.ledger.holding import Stored
from notifier.ledger.leases import LeaseLost
from notifier.ledger.notifications import Filter
from notifier.ledger.replays import Replay
from notifier.ledger.standing import WAITING

#: Notifications looked at in one piece; a job that is cut off in the middle of one looks at it again.
PIECE = 50
#: Of them, read from the database at once: facts want to be written meanwhile.
READ_AT_ONCE = 3
#: Milliseconds after its due moment from which on an unfinished notification counts as lost on the way.
LOST_MS = 600_000


class Replaying:
    """Replays one at once, jobs piece by piece. lookup: the merchant as it is known now. clock: Unix seconds.

    holds: whether the lease is still this agent's; asked before anything of a job is published.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        topology: Topology,
        marker: Marker,
        pace: Pace,
        lookup: Callable[[str], Merchant | None],
        default_ladder: Ladder,
        configured: Collection[Tier],
        *,
        clock: Callable[[], float],
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        self.started = asyncio.Event()
        self._database = database
        self._publisher = publisher
        self._topology = topology
        self._marker = marker
        self._pace = pace
        self._lookup = lookup
        self._default_ladder = default_ladder
        self._configured = configured
        self._clock = clock
        self._holds = holds
        self._reading = asyncio.Semaphore(READ_AT_ONCE)

    async def one(self, notification: str, who: str) -> dict[str, Any]:
        """Send it again from the first step of its ladder, in a run of its own.

        Raises NotFound, Conflict (payload gone, still on its way), DatabaseUnavailable, BrokerError.
        """
        stored = await holding.stored(self._database, notification)
        if stored is None:
            raise NotFound(f"the ledger knows no notification {notification!r:.140}")
        fact = await self._again(stored, who)
        await self._marker.mark([fact])
        return {"id": notification, "run": fact.run}

    async def start(self, wanted: Mapping[str, Any], who: str) -> dict[str, Any]:
        """A job for everything that matches the filter now. Raises InvalidInput, DatabaseUnavailable."""
        now_ms = self._now_ms()
        total = await notifications.count(self._database, _until(Filter.parse(wanted).to_send(), now_ms))
        replay = await replays.create(self._database, wanted, who, total, now_ms)
        logs.event("replay.started", replay=replay.id, who=who, total=total)
        self.started.set()
        return {"replay": replay.id, "total": total}

    async def stop(self, replay: str) -> dict[str, Any]:
        """No more of it. Raises NotFound, Conflict for one that has ended, DatabaseUnavailable."""
        if await replays.finish(self._database, replay, self._now_ms(), "cancelled"):
            return {"replay": replay, "state": "cancelled"}
        known = await replays.get(self._database, replay)
        if known is None:
            raise NotFound(f"there is no replay {replay!r:.80}")
        raise Conflict(f"replay {replay} has ended: it is {known.state}")

    async def round(self) -> int:
        """Go on with every job, one piece each; returns how many notifications were looked at.

        Raises DatabaseUnavailable, BrokerError, LeaseLost; then that piece is looked at again.
        """
        self.started.clear()
        count = 0
        for replay in await replays.running(self._database):
            if not self._holds():
                break
            try:
                count += await self._piece(replay)
            except InvalidInput as error:  # of another version, which knew other filters
                await replays.finish(self._database, replay.id, self._now_ms(), "cancelled", str(error))
        return count

    async def _piece(self, replay: Replay) -> int:
        wanted = _until(Filter.parse(replay.wanted).to_send(), replay.created_at)
        page = await notifications.list_notifications(self._database, wanted, replay.cursor, PIECE)
        ids = [str(item["id"]) for item in page.items]
        before = await replays.replayed_by(self._database, ids, replay.by)  # of a piece that was cut off
        done, left = len(before), [each for each in ids if each not in before]
        while left:
            room = await self._pace.some(len(left))
            done += await self._replay_all(left[:room], replay.by)
            left = left[room:]
        place = page.next or replay.cursor
        if not await replays.advance(self._database, replay, done, len(ids) - done, place):
            return 0  # another agent works on it
        if page.next is None:
            await replays.complete(self._database, replay, self._now_ms())
            logs.event("replay.done", replay=replay.id, total=replay.total)
        return len(page.items)

    async def _replay_all(self, ids: Sequence[str], who: str) -> int:
        """Publish those that can be, at once, and mark them in the same breath; returns how many.

        Whatever hinders one of them, those that the broker has are marked. Raises DatabaseUnavailable, BrokerError,
        LeaseLost, if one could not be tried to the end.
        """
        outcomes = await asyncio.gather(*(self._if_it_can(each, who) for each in ids), return_exceptions=True)
        facts = [outcome for outcome in outcomes if isinstance(outcome, Fact)]
        if facts:
            await self._marker.mark(facts)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if any(isinstance(error, Unroutable) for error in failed):
            self._publisher.declare_again()  # a queue was deleted
        if failed:
            raise failed[0]
        return len(facts)

    async def _if_it_can(self, notification: str, who: str) -> Fact | None:
        """The fact that it was sent again; None for what never can be. Raises what may be over the next time."""
        async with self._reading:
            stored = await holding.stored(self._database, notification)
        try:
            if not self._holds():
                raise LeaseLost
            return None if stored is None else await self._again(stored, who)
        except Conflict as conflict:
            logs.event("replay.skipped", logging.DEBUG, notification=notification, why=str(conflict))
        except MessageTooLarge as error:
            logs.event("replay.skipped", logging.ERROR, notification=notification, why=str(error))
        except NotifierError:
            raise
        except Exception as error:  # a fault of ours, of this one alone
            logs.event("failed", logging.ERROR, exc_info=error, notification=notification, what="it was not replayed")
        return None

    async def _again(self, stored: Stored, who: str) -> Fact:
        """Publish it, confirmed; returns the fact that says so."""
        _check_standing(stored, self._now_ms())
        await self._pace.turn()
        now_ms = self._now_ms()
        merchant = self._lookup(stored.merchant)
        ladder = (merchant.ladder if merchant else None) or self._default_ladder
        notification, tier = rebuilding.replayed(stored, ladder, self._configured, stored.run + 1, now_ms)
        await self._publisher.publish_by(self._topology.way(tier), wire.write(notification, fresh_message_id()))
        logs.event("replayed", notification=stored.id, merchant=stored.merchant, run=notification.run, who=who)
        body = {"merchant": stored.merchant, "tier": tier.name, "step": 0, "due": notification.due_at, "who": who}
        return Fact(Kind.REPLAYED, stored.id, notification.run, now_ms, body)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _check_standing(stored: Stored, now_ms: int) -> None:
    """What is on its way already is not sent a second time beside it."""
    if stored.stands == "held":
        raise Conflict(f"{stored.id} is held ({stored.stands_why}) and goes on by itself when that is over")
    if stored.stands not in WAITING:
        return
    due = stored.due_at if stored.due_at is not None else stored.accepted_at
    if now_ms < due + LOST_MS:
        raise Conflict(
            f"{stored.id} is on its way, due at {logs.moment(due)}: wait for its end, or cancel it first. "
            "It can be replayed when it is 10 minutes overdue"
        )


def _until(wanted: Filter, now_ms: int) -> Filter:
    """Only what had been accepted before: a job must not chase what it or others send meanwhile."""
    return replace(wanted, until=now_ms if wanted.until is None else min(wanted.until, now_ms))
