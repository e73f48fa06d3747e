"""THE PAGE: one notification, from taken to settled.

    take → read → admit → wait for a turn → call back → decide → settle (fact, then next tier, then ack)

The order of the effects is the promise: a fact is confirmed before the message moves on, the next tier is confirmed
before the ack, and the ack is the last effect. Whatever dies in between, the broker still has the message, and the
worst that can happen is that a merchant hears of it twice, under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace

from notifier import logs
from notifier.broker import poison
from notifier.broker.connection import cancelled_by_owner
from notifier.broker.consumer import Delivery
from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology, Way
from notifier.delivery.attempt import Attempt
from notifier.delivery.breaker import Breakers
from notifier.delivery.callback import Callback
from notifier.delivery.facts import Recorder
from notifier.delivery.failpoints import FailPoints
from notifier.delivery.inflight import InFlight, Work
from notifier.delivery.lane import Refused, Turn
from notifier.delivery.steps import Steps
from notifier.delivery.tally import Tally
from notifier.delivery.turns import Turns
from notifier.domain import fact, wire
from notifier.domain.decision import Held, HoldReason, NextTier, Stopped, admit, decide, ladder_of
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification, fresh_id
from notifier.domain.tier import Tier
from notifier.domain.wire import Message
from notifier.errors import CallWithheld, RegistryUnreadable, UnreadableMessage
from notifier.sections import Breaker, Isolation

#: Seconds between two looks at a registry that cannot be read.
_LOOK_AGAIN = 1.0
#: Seconds, beyond its tier's delay, that a due moment may be under way.
_UNDER_WAY = 60.0


class DeliveryRoom:
    """Works on the deliveries of one tier, each in a coroutine of its own.

    lookup: the merchant as it is known now, or None; asked in the moment before each callback. cancelled: why a run of
    a notification, by its id, was given up, or None; asked likewise. Both may raise RegistryUnreadable. most_payload:
    bytes. prefetch: deliveries that may be in hand. overflowed: see `Turns`. strict: one callback at a time to each
    merchant, and what comes meanwhile waits. clock: Unix seconds. unforeseen: hears of what should not have been
    raised. points: where tests of faults kill the process.

    turns: whose turn it is. breakers: who is left alone for a while. tally: what came of the callbacks.
    """

    def __init__(
        self,
        tier: Tier,
        configured: Collection[Tier],
        default_ladder: Ladder,
        topology: Topology,
        publisher: Publisher,
        recorder: Recorder,
        callback: Callback,
        lookup: Callable[[str], Merchant | None],
        *,
        most_payload: int,
        cancelled: Callable[[str, int], str | None] | None = None,
        isolation: Isolation | None = None,
        prefetch: int = 200,
        breakers: Breakers | None = None,
        overflowed: Callable[[str], None] | None = None,
        strict: bool = False,
        clock: Callable[[], float] = time.time,
        unforeseen: Callable[[BaseException], None] | None = None,
        points: FailPoints | None = None,
    ) -> None:
        self._isolation = isolation or Isolation()
        self.breakers = breakers or Breakers(Breaker(enabled=False), 0, lambda merchant, value: None)
        self.turns = Turns(
            self.__len__,
            prefetch,
            self._isolation.share,
            overflowed or (lambda merchant: None),
            patient=strict,
            worth=self.breakers.worth,
        )
        self.tally = Tally()
        self._tier = tier
        self._configured = configured
        self._default_ladder = default_ladder
        self._topology = topology
        self._publisher = publisher
        self._recorder = recorder
        self._callback = callback
        self._lookup = lookup
        self._cancelled = cancelled or _never_cancelled
        self._most_payload = most_payload
        self.strict = strict
        self._clock = clock
        self._steps = Steps(tier.seconds + _UNDER_WAY, clock)
        self._unforeseen = unforeseen
        self._points = points or FailPoints()
        self._aside: list[Delivery] | None = None
        self._in_flight = InFlight()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._in_flight)

    def take(self, delivery: Delivery) -> asyncio.Task[None] | None:
        """Start to work on a delivery; None when work that is here adopted it, or the room is shut."""
        if self._in_flight.adopted(delivery):
            return None
        if self._in_flight.was_settled(delivery):
            return self._spawn(self._acknowledge_again(delivery))
        if self._aside is not None:
            self._aside.append(delivery)
            return None
        work = self._in_flight.take(delivery)
        return self._spawn(self._finish(work, self._work(work)))

    def condemn(self, delivery: Delivery, reason: str) -> asyncio.Task[None] | None:
        """Settle a delivery as poison, unworked; None when work that is here adopted it."""
        if self._in_flight.adopted(delivery):
            return None
        work = self._in_flight.take(delivery)
        return self._spawn(self._finish(work, self._settle_poison(work, reason)))

    def shut(self) -> None:
        """Start nothing from now on; what comes is laid aside, what runs finishes. Twice is fine."""
        if self._aside is None:
            self._aside = []

    async def give_back(self) -> None:
        """Return to the queue what is laid aside or waits for its turn. Only with the consumer cancelled: else it would
        come again at once, and be counted as delivered each time.

        In strict order nothing is returned, only let go: the end of the connection returns all at once, in its order.
        """
        self.turns.send_away()
        aside, self._aside = self._aside or [], []
        for delivery in () if self.strict else aside:
            await delivery.give_back()

    def open(self) -> None:
        """Start again what comes; what is still laid aside at once. Twice is fine."""
        aside, self._aside = self._aside or [], None
        for delivery in aside:
            if not delivery.stale:
                self.take(delivery)

    async def called_back(self, merchant: str, timeout: float) -> bool:
        """Wait until the callbacks to this merchant that run now are over; False if some are not in time."""
        running = self._in_flight.calling(merchant)
        return not running or not (await asyncio.wait(running, timeout=timeout))[1]

    @property
    def works(self) -> list[Work]:
        """What is in flight, those taken last at the end."""
        return list(self._in_flight.works)

    async def drained(self) -> None:
        """Wait until nothing is in flight."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def abandon(self) -> int:
        """Stop what is still running, unacknowledged: the broker gives it to others. Returns how many there were."""
        left = len(self._tasks)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return left

    async def _work(self, work: Work) -> None:
        notification = await self._read(work)
        if notification is None:
            return
        turn = await self._turn(notification)
        if turn is None:
            if not self.strict:
                await work.delivery.give_back()
            return
        attempt: Attempt | Held | Stopped
        if isinstance(turn, Turn):
            try:
                attempt = await self._attempt(work, notification)
            finally:
                self.turns.over(turn)
        else:
            attempt = turn
        if not isinstance(attempt, Attempt):
            await self._settle_unattempted(work, notification, attempt)
            return
        attempt.tell(notification, self._tier)
        await self._settle(work, notification, attempt)

    async def _read(self, work: Work) -> Notification | None:
        """The notification; None for a message that was settled as something else."""
        message = work.delivery.message
        try:
            if wire.identity(message) is None:
                await self._settle_unnamed(work)
                return None
            work.notification = wire.read(message, most_payload=self._most_payload)
        except UnreadableMessage as error:
            await self._settle_poison(work, str(error))
        return work.notification

    async def _turn(self, notification: Notification) -> Turn | Held | Stopped | None:
        """Wait until the merchant may be called; what may not be called anyway, or has no room, waits for nothing.

        None: it was sent away from its place.
        """
        merchant, refused = await self._looked(notification)
        if refused is not None:
            return refused
        if refusal := self.breakers.refusal(notification.merchant, new=notification.is_new):
            return Held(HoldReason.BREAKER_OPEN, refusal)
        most = (merchant.concurrency if merchant else None) or self._isolation.concurrency
        turn = await self.turns.mine(
            notification.merchant,
            1 if self.strict else most,
            (merchant.rate if merchant else None) or self._isolation.rate,
            released=notification.released is not None,
        )
        if isinstance(turn, Turn):
            return turn
        if turn is Refused.NO_ROOM:
            return Held(HoldReason.NO_ROOM, "it is slow, and more is due than it may hold of this process at once")
        return None

    async def _attempt(self, work: Work, notification: Notification) -> Attempt | Held | Stopped:
        """Call back and decide. Between the last look at the merchant and the callback nothing else runs."""
        await self._points.reach("before-callback")
        await self._points.reach("during-callback")
        merchant, refused = await self._looked(notification)
        if refused is not None:
            return refused
        if refusal := self.breakers.pass_(notification.merchant, new=notification.is_new):
            return Held(HoldReason.BREAKER_OPEN, refusal)
        started, believed = self._clock(), self._steps.believed()
        work.call_started(started)
        try:
            outcome = await self._callback(notification, merchant or Merchant(notification.merchant))
        except CallWithheld as error:  # blocked while it was connecting
            self.breakers.withdrawn(notification.merchant)
            return (await self._looked(notification))[1] or Held(HoldReason.BLOCKED, str(error))
        finally:
            work.call_ended()
        if outcome.ours:  # a merchant is not cut off for that
            self.breakers.withdrawn(notification.merchant)
        else:
            self.breakers.attempted(notification.merchant, acknowledged=outcome.acknowledged)
        ladder = ladder_of(notification, merchant, self._default_ladder)
        decision = decide(notification, ladder, outcome, self._configured, merchant.url if merchant else None)
        late = notification.lateness(started * 1000) if believed else None
        self.tally.attempted(late, acknowledged=outcome.acknowledged, due=notification.due_at is not None)
        return Attempt(started, outcome, ladder, decision, believed)

    async def _looked(self, notification: Notification) -> tuple[Merchant | None, Held | Stopped | None]:
        """The merchant at this moment, and why it is not to be called. A registry that cannot be read is asked again:
        nobody is called without it, and it is no fault of the message.
        """
        while True:
            try:
                merchant = self._lookup(notification.merchant)
                cancelled = self._cancelled(notification.id, notification.run)
            except RegistryUnreadable as error:
                logs.event("registry.unreadable", logging.ERROR, notification=notification.id, why=str(error))
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                return merchant, admit(notification, merchant, needs_url=self._callback.needs_url, cancelled=cancelled)

    async def _settle(self, work: Work, notification: Notification, attempt: Attempt) -> None:
        now_ms, decision = self._now_ms(), attempt.decision
        attempted = fact.attempted(
            notification,
            self._tier,
            attempt.outcome,
            decision,
            started_ms=int(attempt.started * 1000),
            now_ms=now_ms,
            believed=attempt.believed,
        )
        concluded = fact.concluded(notification, self._tier, decision, now_ms)
        await self._points.reach("before-fact")
        await self._recorder.record(attempted, *([concluded] if concluded else []))
        if isinstance(decision, NextTier):
            waiting = notification.climbing(attempt.ladder, decision.tier, decision.step, self._now_ms())
            if not self._steps.believed():  # whoever takes it next could not tell a wrong moment from a late one
                waiting = replace(waiting, due_at=None)
            message = wire.write(waiting, fresh_message_id())
            await self._points.reach("before-republish")
            await self._publisher.insist_by(self._topology.way(decision.tier), message)
        await self._acknowledge(work)

    async def _settle_unattempted(self, work: Work, notification: Notification, refused: Held | Stopped) -> None:
        """No attempt and no step used. Of what is held, the ledger has it from here on, payload and all."""
        name = "held" if isinstance(refused, Held) else "stopped"
        if name == "held":
            self.tally.held += 1
        logs.event(
            name,
            notification=notification.id,
            merchant=notification.merchant,
            tier=self._tier.name,
            reason=refused.reason,
            why=refused.detail or None,
        )
        concluded = fact.concluded(notification, self._tier, refused, self._now_ms())
        assert concluded is not None
        await self._recorder.record(concluded)
        await self._acknowledge(work)

    async def _settle_unnamed(self, work: Work) -> None:
        """A message without any id gets one before anyone is called, so that all its attempts carry the same."""
        message = wire.stamped(work.delivery.message, fresh_id(), fresh_message_id())
        await self._publisher.insist_by(Way(self._topology.work, self._tier.name), message)
        await self._acknowledge(work)

    async def _settle_poison(self, work: Work, reason: str) -> None:
        message = work.delivery.message
        self.tally.poisoned += 1
        logs.event("poisoned", logging.ERROR, tier=self._tier.name, message_id=message.message_id, why=reason)
        try:
            told = message if len(message.body) <= self._most_payload else replace(message, body=b"")
            await self._bury(message, told, reason)
        except Exception as error:  # headers that cannot be written again, or leave no room for ours
            bare = replace(message, headers=wire.essential(message.headers))
            await self._bury(bare, replace(bare, body=b""), f"{reason} (headers not kept: {error})")
        await self._acknowledge(work)

    async def _bury(self, message: Message, told: Message, reason: str) -> None:
        """told: what of the message goes into the fact."""
        await self._recorder.record(fact.poisoned(told, self._tier, reason, self._now_ms()))
        await self._publisher.insist_by(
            Way("", self._topology.poison), poison.marked(message, self._tier, reason, self._now_ms())
        )

    async def _acknowledge(self, work: Work) -> None:
        """The last effect."""
        await self._points.reach("before-ack")
        self._in_flight.remember(work)
        acknowledged = None
        while acknowledged is not work.delivery:  # a redelivery may be adopted while the ack of the lost one is written
            acknowledged = work.delivery
            await acknowledged.ack()

    async def _acknowledge_again(self, delivery: Delivery) -> None:
        await delivery.ack()

    async def _finish(self, work: Work, steps: Coroutine[None, None, None]) -> None:
        """See a work to its end. What we did not foresee is a fault of ours, so the message goes to poison."""
        try:
            await steps
        except BaseException as error:  # a callback's own CancelledError, say
            if cancelled_by_owner(error) or isinstance(error, KeyboardInterrupt | GeneratorExit):
                raise
            logs.event("failed", logging.ERROR, exc_info=error, tier=self._tier.name, key=work.key)
            if self._unforeseen is not None:
                self._unforeseen(error)
            await self._settle_fault(work, f"notifier failed on it: {type(error).__name__}: {error}")
        finally:
            self._in_flight.drop(work)

    async def _settle_fault(self, work: Work, reason: str) -> None:
        """To poison; what cannot even go there goes back to its queue, else it would keep its place here for ever. The
        broker itself ends that, by the delivery limit.
        """
        try:
            await self._settle_poison(work, reason)
        except Exception as error:
            logs.event("failed", logging.ERROR, exc_info=error, tier=self._tier.name, key=work.key)
            await asyncio.sleep(_LOOK_AGAIN)
            await work.delivery.give_back()

    def _spawn(self, steps: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(steps)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _never_cancelled(notification: str, run: int) -> str | None:
    return None
