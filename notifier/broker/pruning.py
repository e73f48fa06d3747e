"""Deleting what a namespace does not use any more: tiers of no ladder, and partitions that are fed no more.

A quorum queue cannot be deleted on the condition that it is empty (if-empty and if-unused are not implemented: 3.10.8),
and the number of messages that a client sees leaves out what a wait queue is just handing over. So the order matters:

1. The slot is announced as leaving: services let its process finish (the announcement ends with this connection).
2. What leads into it is unbound. A producer's publish is returned from here on, and whoever has the tier configured
   declares it again when it connects next: then there is a consumer or a message, and it stays.
3. It is watched until it is empty and nobody consumes it. A cancelled consumer counts as one as long as it has
   messages in its hands (measured), so a queue without consumers and without messages holds none at all, but for those
   that a wait queue hands over to a queue that had been away: the broker tries those again every 180 s, and does not
   show them. Hence `settle`.
4. Nobody declares anything for a moment (`Changing.fenced`), a consumer of ours sits on the queue, and it is deleted.
   What came in at the last moment is in our hands then: the queue is made anew, and gets it back.
5. Only then it leaves the record. Whatever dies in between, the record still names it, so services still serve it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from notifier.broker import declare
from notifier.broker.connection import beside
from notifier.broker.inspect import Look, QueueState
from notifier.broker.record import Recorded
from notifier.broker.reshaping import Changing, changing, exists
from notifier.broker.topology import Binding, Queue, Topology
from notifier.domain import wire
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

#: Seconds after which the broker has tried again what a wait queue could not hand over (FACTS §1), and some more.
SETTLE = 190.0
#: Seconds for the processes of what leaves to finish: a look at the record, a drain, and some more.
LEAVE = 60.0
_BLINK = 0.5
#: Seconds for a leader that was too busy to answer.
_ANSWER = 0.1
#: Seconds for what was on its way to our own consumer when the queue was deleted.
_LAST = 0.2


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is deleted together: a tier of no ladder, or all partitions that are fed no more (then there is no tier).

    slots: of the processes that serve it. queues: work queues first. feeds: what leads into it.
    """

    name: str
    tier: Tier | None
    slots: Sequence[str]
    queues: Sequence[Queue]
    feeds: Sequence[Binding] = ()


@dataclass(slots=True)
class Pruned:
    """What came of it. gone: names. kept: names, with a sentence why."""

    gone: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def unused(recorded: Recorded, topology: Topology) -> list[Leaving]:
    """What may leave, by the record and the configured tiers. Pure."""
    now = recorded.partitions
    if now is None:
        return []
    whole = replace(topology, tiers=recorded.tiers, partitions=now)
    old = recorded.partitions_of_old(now)
    tiers = [_tier(whole, tier, (*whole.numbered, *old)) for tier in recorded.retired(topology.tiers)]
    served = [(tier, partition) for tier in recorded.tiers for partition in old]
    slots, queues = _served(whole, served)
    return [*tiers, *([Leaving("partitions of before", None, slots, queues)] if served else [])]


def _tier(topology: Topology, tier: Tier, partitions: Sequence[int | None]) -> Leaving:
    slots, queues = _served(topology, [(tier, partition) for partition in partitions])
    if tier.seconds:
        waiting = topology.waiting(tier)
        return Leaving(
            f"tier {tier.name}", tier, slots, [*queues, waiting], [Binding(topology.wait, waiting.name, tier.name)]
        )
    through = Binding(topology.wait, topology.work, tier.name, to_exchange=True)
    return Leaving(f"tier {tier.name}", tier, slots, queues, [through])


def _served(topology: Topology, places: Sequence[tuple[Tier, int | None]]) -> tuple[list[str], list[Queue]]:
    names = [tier.name if partition is None else f"{tier.name}.{partition}" for tier, partition in places]
    return [f"tier:{name}" for name in names], [topology.working(tier, partition) for tier, partition in places]


async def prune(
    urls: Sequence[str], topology: Topology, patience: float, settle: float, told: Callable[[str], None]
) -> Pruned:
    """Delete what is not used any more, if it is empty and stays so for `settle` seconds.

    told: gets a sentence about what takes time. Raises what `changing` raises.
    """
    async with changing(urls, topology, patience) as change:
        recorded = await change.record.read()
        pruning = _Pruning(change, recorded, told)
        await pruning.look(unused(recorded, topology), settle)
        await pruning.announce()
        await pruning.watch(settle)
        await pruning.delete()
        return pruning.pruned


class _Pruning:
    """The steps of one prune; whatever cannot go is taken out of `going` and put back as it was."""

    def __init__(self, change: Changing, recorded: Recorded, told: Callable[[str], None]) -> None:
        self.pruned = Pruned()
        self._change = change
        self._recorded = recorded
        self._told = told
        self._look = Look(change.channel)
        self._going: list[Leaving] = []

    async def look(self, candidates: Sequence[Leaving], settle: float) -> None:
        """Those that hold something, or may hold it unseen, stay untouched."""
        delayed = await exists(self._change.channel, self._change.topology.delayed)
        for leaving in candidates:
            seconds = leaving.tier.seconds if leaving.tier else 0
            if held := await self._held(leaving):
                self.pruned.kept[leaving.name] = held
            elif delayed and seconds > settle:
                self.pruned.kept[leaving.name] = (
                    "the exchange of the plugin does not show what it holds: it is empty of this tier after "
                    f"--settle {seconds}"
                )
            else:
                self._going.append(leaving)

    async def announce(self) -> None:
        """Let no process stay there, and nothing more come."""
        for leaving in self._going:
            for slot in leaving.slots:
                await self._change.record.note_leaving(slot)
            for feed in leaving.feeds:
                await declare.unbind_one(self._change.channel, feed)

    async def watch(self, settle: float) -> None:
        """Until all are empty, unused, and have been so for long enough."""
        if self._going:
            self._told(f"looking for {settle:g} s whether {_names(self._going)} stay empty; Ctrl-C deletes nothing")
        began = time.monotonic()
        empty_since: dict[str, float] = {}
        waiting = list(self._going)
        while waiting:
            for leaving in list(waiting):
                now = time.monotonic()
                consumed = await self._consumed(leaving)
                if held := await self._held(leaving):
                    await self._keep(leaving, f"something came in: {held}")
                    waiting.remove(leaving)
                elif consumed and now - began > max(LEAVE, settle):
                    await self._keep(leaving, f"{consumed} is still consumed: a service has this tier in a ladder")
                    waiting.remove(leaving)
                elif consumed:
                    empty_since.pop(leaving.name, None)
                elif now - empty_since.setdefault(leaving.name, now) >= settle:
                    waiting.remove(leaving)
            if waiting:
                await asyncio.sleep(_BLINK)

    async def delete(self) -> None:
        """The last look and the deletion, while nobody declares anything."""
        number = self._recorded.partitions
        if not self._going or number is None:
            return
        async with self._change.fenced([number]):
            for leaving in list(self._going):
                if why := await self._in_use(leaving):
                    await self._keep(leaving, why)
                elif not await _to_its_end(self._deleted(leaving)):
                    await self._keep(leaving, "something came in while it was deleted; it is there again")
                else:
                    self.pruned.gone.append(leaving.name)
            await self._forget()
            await self._change.record.set_mark(number)

    async def _forget(self) -> None:
        """Of the record: tiers that are gone, and the numbers of partitions of before if nothing is left of them."""
        for leaving in self._going:
            if leaving.tier is not None:
                await self._change.record.forget_tier(leaving.tier)
                continue
            for number in self._recorded.had:
                if number != self._recorded.partitions:
                    await self._change.record.forget_number(number)

    async def _deleted(self, leaving: Leaving) -> bool:
        """False if something came in meanwhile; then its queues are there again, with what came."""
        caught: list[tuple[Queue, DeliveredMessage]] = []
        async with self._guarded(leaving, caught) as channel:
            if caught:
                return False  # all of it goes back
            for queue in reversed(leaving.queues):  # wait before work: what it hands over needs somewhere to go
                await channel.queue_delete(queue.name)
            await asyncio.sleep(_LAST)
        if caught:
            await self._make_again(leaving)
            for queue, message in caught:
                await _put_back(channel, queue, message)
        elif leaving.tier is not None:
            await self._unlead(leaving.tier)
        return not caught

    @asynccontextmanager
    async def _guarded(self, leaving: Leaving, caught: list[tuple[Queue, DeliveredMessage]]) -> AsyncIterator[Channel]:
        """Have a consumer of ours on each queue; it acknowledges nothing."""
        async with beside(self._change.channel) as guarding:
            await guarding.basic_qos(prefetch_count=1000)
            for queue in leaving.queues:
                await declare.declare_one(self._change.channel, queue)  # one that was never made is as good as empty

                async def catch(message: DeliveredMessage, queue: Queue = queue) -> None:
                    caught.append((queue, message))

                await guarding.basic_consume(queue.name, catch)
            yield self._change.channel

    async def _unlead(self, tier: Tier) -> None:
        """What led to its queues, apart from the queues' own bindings, which ended with them."""
        topology, channel = self._change.topology, self._change.channel
        await channel.exchange_delete(topology.hashing(tier))
        if await exists(channel, topology.delayed):
            await channel.exchange_unbind(topology.work, topology.delayed, tier.name)

    async def _keep(self, leaving: Leaving, why: str) -> None:
        self._going.remove(leaving)
        self.pruned.kept[leaving.name] = why
        await self._make_again(leaving)
        for slot in leaving.slots:
            await self._change.record.strike_leaving(slot)

    async def _make_again(self, leaving: Leaving) -> None:
        """As it was: queues, and what leads into them."""
        for queue in leaving.queues:
            await declare.declare_one(self._change.channel, queue)
        if leaving.tier is not None:
            now = self._recorded.partitions or 1
            whole = replace(self._change.topology, tiers=(leaving.tier,), partitions=now)
            for exchange in whole.exchanges:
                await declare.declare_one(self._change.channel, exchange)
            for queue in whole.queues:
                await declare.declare_one(self._change.channel, queue)
            for binding in whole.bindings:
                await declare.bind_one(self._change.channel, binding)

    async def _held(self, leaving: Leaving) -> str | None:
        """What is in it, in words; None if nothing is to be seen."""
        for queue in leaving.queues:
            state = await self._state(queue)
            if state.ready:
                return f"{state.ready:,} in {queue.name}"
        return None

    async def _in_use(self, leaving: Leaving) -> str | None:
        """Why it may not be deleted, by the last look. That there is nothing is believed when it is seen three times:
        RabbitMQ says that a quorum queue has neither messages nor consumers also when its leader does not answer within
        250 ms (rabbit_quorum_queue:stat).
        """
        for _ in range(3):
            for queue in leaving.queues:
                state = await self._state(queue)
                if state.ready:
                    return f"something came in: {state.ready:,} in {queue.name}"
                if state.consumers:
                    return f"{queue.name} is consumed again"
            await asyncio.sleep(_ANSWER)
        return None

    async def _consumed(self, leaving: Leaving) -> str | None:
        """The first of its queues that has consumers, or holds something that is in somebody's hands."""
        for queue in leaving.queues:
            if (await self._state(queue)).consumers:
                return queue.name
        return None

    async def _state(self, queue: Queue) -> QueueState:
        return await self._look.queue(queue.name) or QueueState(0, 0)


async def _to_its_end(deleting: Coroutine[Any, Any, bool]) -> bool:
    """Its result. A cancellation has to wait: what was caught meanwhile is nowhere but in our hands."""
    task = asyncio.create_task(deleting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _put_back(channel: Channel, queue: Queue, message: DeliveredMessage) -> None:
    """Publish it again, confirmed, as it was; into a wait queue for its whole time, so it is not early."""
    properties = message.header.properties
    kept = wire.portable(Message(message.body, properties.headers or {}).headers)
    await channel.basic_publish(
        message.body,
        exchange="",
        routing_key=queue.name,
        mandatory=True,
        properties=spec.Basic.Properties(
            headers=dict(kept),  # type: ignore[arg-type]  # any AMQP value of a foreign producer
            content_type=properties.content_type,
            correlation_id=properties.correlation_id,
            message_id=properties.message_id,
            delivery_mode=2,
        ),
    )


def _names(leaving: Sequence[Leaving]) -> str:
    return ", ".join(each.name for each in leaving)
