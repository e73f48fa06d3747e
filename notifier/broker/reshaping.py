"""Changing the number of partitions of a namespace while messages flow, by one command for all machines.

Nothing is lost and nothing doubled, since at each moment every message has exactly one way:

- a consistent-hash exchange gives a message to one of its queues, however many are bound to it;
- a queue that is reached both directly and through that exchange gets a message once (measured on 3.10.8).

So the step from the direct way to the hashed one goes by way of a hash exchange whose only queue is the old one, and
all other steps are made within the hash exchange. What lies in queues that are fed no more stays there, for the
processes that the record keeps for them: moving it would mean to publish it a second time.

Whoever connects meanwhile must not bind what was right before. So first the mark is taken away, which makes everybody
ask the record and wait; then those who had seen it get the time to finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiormq.channel import Channel
from aiormq.exceptions import AMQPError

from notifier.broker import declare
from notifier.broker.connection import Link, beside
from notifier.broker.record import Record, Recorded, stands
from notifier.broker.topology import PARTITION_WEIGHT, Binding, Topology
from notifier.domain.tier import Tier
from notifier.errors import BrokerError, Conflict, HashingMissing

#: Seconds for those who saw the mark before it was taken away, and declare what it had told them.
GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Reshaped:
    """What came of it. before: the numbers that were recorded, two after a change that was not finished."""

    before: Sequence[int]
    after: int
    tiers: Sequence[Tier]


class Changing:
    """A namespace that we alone may change just now. channel: for declaring and binding; record: what it is about."""

    def __init__(self, channel: Channel, record: Record, topology: Topology) -> None:
        self.channel = channel
        self.record = record
        self.topology = topology

    @asynccontextmanager
    async def fenced(self, numbers: Sequence[int]) -> AsyncIterator[None]:
        """Nobody declares anything for a while. The mark is missing afterwards, also of a block that failed."""
        for number in numbers:
            await self.record.remove_mark(number)
        await asyncio.sleep(GRACE)
        yield


@asynccontextmanager
async def changing(urls: Sequence[str], topology: Topology, patience: float) -> AsyncIterator[Changing]:
    """Hold the lock of the record for the length of the block. Raises Conflict when somebody else does.

    patience: seconds to reach the broker. Raises BrokerUnreachable, ConfigurationError; BrokerError when it refuses.
    """

    async def nothing(_: Channel) -> None:
        return None

    link = Link(urls, "topology", nothing, confirms=True)
    await link.start(patience)
    try:
        channel = await link.channel()
        record = Record(channel, topology)
        await record.open()
        if not await record.lock():
            raise Conflict(f"another `notifier topology` command changes namespace {topology.namespace} just now")
        yield Changing(channel, record, topology)
    except AMQPError as error:
        if "x-consistent-hash" in str(error):
            raise HashingMissing(declare.HASHING_MISSING) from None
        raise BrokerError(
            f"RabbitMQ refused or went away: {error}. What was begun is finished by the same command"
        ) from (None)
    finally:
        await link.close()


async def change_partitions(
    urls: Sequence[str], topology: Topology, patience: float, told: Callable[[str], None]
) -> Reshaped:
    """Give the namespace the topology's number of partitions. told: gets a sentence about what takes time.

    Raises Conflict, HashingMissing (then nothing has changed), and what `changing` raises.
    """
    async with changing(urls, topology, patience) as change:
        recorded = await _recorded(change)
        wanted, before = topology.partitions, recorded.numbers
        tiers = tuple(sorted({*recorded.tiers, *topology.tiers}))
        if before in ((), (wanted,)):
            await change.record.note_number(wanted)
            await change.record.set_mark(wanted)
            return Reshaped(before, wanted, ())
        whole = replace(topology, tiers=tiers)
        await _make_ready(change.channel, whole)
        told(f"waiting {GRACE:g} s for whoever is just connecting")
        async with change.fenced(before):
            await change.record.note_number(wanted)
            most = max(*before, *recorded.had, wanted)
            for tier in tiers:
                await _lead(change.channel, whole, tier, before, most)
            for number in before:
                if number != wanted:
                    await change.record.strike_number(number)
            await change.record.set_mark(wanted)
        return Reshaped(before, wanted, tiers)


async def _recorded(change: Changing) -> Recorded:
    """What is recorded; a namespace that is older than records has one partition."""
    recorded = await change.record.read()
    if not recorded.numbers and await exists(change.channel, change.topology.work):
        await change.record.note_number(1)
        recorded = await change.record.read()
    return recorded


async def exists(channel: Channel, exchange: str) -> bool:
    """Whether there is such an exchange; the channel stays open."""
    async with beside(channel) as asking:
        return await stands(asking, exchange)


async def _make_ready(channel: Channel, topology: Topology) -> None:
    """All that messages could be led into, led into by nothing yet."""
    for tier in topology.tiers:
        await declare.declare_one(channel, topology.hash_exchange(tier))
        for partition in topology.numbered:
            await declare.declare_one(channel, topology.working(tier, partition))


async def _lead(channel: Channel, topology: Topology, tier: Tier, before: Sequence[int], most: int) -> None:
    """Lead a tier's messages into its queues and no others. most: partitions that there ever were."""
    direct = Binding(topology.work, topology.work_queue(tier), tier.name)
    hashed = Binding(topology.work, topology.hashing(tier), tier.name, to_exchange=True)
    alone = _member(topology, tier, None)
    members = [_member(topology, tier, partition) for partition in range(most if most > 1 else 0)]
    if topology.partitions == 1:
        await declare.bind_one(channel, alone)
        for member in members:
            await declare.unbind_one(channel, member)
        await declare.bind_one(channel, direct)
        await declare.unbind_one(channel, hashed)
        return
    if 1 in before:
        await declare.bind_one(channel, alone)
        await declare.bind_one(channel, hashed)
        await declare.unbind_one(channel, direct)
    for member in members[: topology.partitions]:
        await declare.bind_one(channel, member)
    await declare.bind_one(channel, hashed)
    for member in [alone, *members[topology.partitions :]]:
        await declare.unbind_one(channel, member)


def _member(topology: Topology, tier: Tier, partition: int | None) -> Binding:
    return Binding(topology.hashing(tier), topology.work_queue(tier, partition), PARTITION_WEIGHT)
