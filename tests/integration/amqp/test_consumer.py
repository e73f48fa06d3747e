"""Consuming: a bounded prefetch, connections that come and go, and acknowledgements that mean something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiormq.channel import Channel
from proxy import Proxy
from queues import Bench

from notifier.broker.connection import open_once
from notifier.broker.consumer import Consumer, Delivery
from notifier.broker.declare import declare
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier

WORK = Tier(0)


class Hands:
    """What a consumer delivered, awaited in order."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Delivery] = asyncio.Queue()

    def take(self, delivery: Delivery) -> None:
        self._arrived.put_nowait(delivery)

    async def next(self, timeout: float = 10) -> Delivery:
        async with asyncio.timeout(timeout):
            return await self._arrived.get()

    async def all(self, count: int) -> list[Delivery]:
        return [await self.next() for _ in range(count)]

    @property
    def untaken(self) -> int:
        return self._arrived.qsize()


@asynccontextmanager
async def consuming(
    urls: str | Sequence[str], topology: Topology, prefetch: int = 10
) -> AsyncIterator[tuple[Consumer, Hands]]:
    hands = Hands()
    consumer = Consumer(
        [urls] if isinstance(urls, str) else urls, topology, topology.work_queue(WORK), prefetch, hands.take
    )
    try:
        await consumer.start(15)
        yield consumer, hands
    finally:
        await consumer.close()


@pytest.fixture
async def work(broker, topology: Topology, bench: Bench) -> Bench:
    """A bench, with the topology declared."""
    link = await open_once([broker.url], "test", patience=10)
    await declare(await link.channel(), topology)
    await link.close()
    return bench


async def another_connection(consumer: Consumer, before: object) -> None:
    """Wait until it consumes by another connection."""
    assert isinstance(before, Channel)
    async with asyncio.timeout(10):
        await asyncio.wait([before.closing])
        assert await consumer.consuming() is not before


async def fill(bench: Bench, topology: Topology, count: int) -> None:
    for number in range(count):
        await bench.publish(topology.work, "0s", b"%d" % number, message_id=f"id-{number}")


async def test_a_delivery_holds_the_message_as_it_was(broker, topology: Topology, work: Bench) -> None:
    await work.publish(
        topology.work,
        "0s",
        b"\x00\xff",
        {"merchant": "m", "step": 2},
        content_type="text/plain",
        message_id="id-1",
        correlation_id="c-1",
    )
    async with consuming(broker.url, topology) as (_, hands):
        delivery = await hands.next()
        message = delivery.message
        assert (message.body, message.content_type) == (b"\x00\xff", "text/plain")
        assert (message.message_id, message.correlation_id) == ("id-1", "c-1")
        assert dict(message.headers) == {"merchant": "m", "step": 2}
        assert not delivery.redelivered
        assert not delivery.stale


async def test_no_more_than_the_prefetch_is_ever_in_our_hands(broker, topology: Topology, work: Bench) -> None:
    await fill(work, topology, 12)
    async with consuming(broker.url, topology, prefetch=5) as (_, hands):
        held = await hands.all(5)
        assert await work.ready(topology.work_queue(WORK)) == 7
        await held[0].ack()
        await hands.next()
        assert await work.ready(topology.work_queue(WORK)) == 6
        assert hands.untaken == 0


async def test_what_is_acknowledged_is_gone_and_the_rest_is_there(broker, topology: Topology, work: Bench) -> None:
    await fill(work, topology, 10)
    async with consuming(broker.url, topology) as (_, hands):
        for delivery in (await hands.all(10))[:6]:
            assert await delivery.ack()
    assert await work.left(topology.work_queue(WORK)) == 4


async def test_after_a_cut_everything_unacknowledged_comes_again_marked_as_redelivered(
    broker, topology: Topology, work: Bench
) -> None:
    await fill(work, topology, 3)
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (_, hands):
        before = await hands.all(3)
        proxy.cut()
        again = await hands.all(3)
        assert all(delivery.redelivered for delivery in again)
        assert [delivery.message.message_id for delivery in again] == ["id-0", "id-1", "id-2"]
        assert all(delivery.stale for delivery in before)
        assert not any(delivery.stale for delivery in again)


async def test_an_acknowledgement_of_a_stale_delivery_says_that_it_means_nothing(
    broker, topology: Topology, work: Bench
) -> None:
    await fill(work, topology, 1)
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (_, hands):
        stale = await hands.next()
        proxy.cut()
        fresh = await hands.next()
        assert await stale.ack() is False
        assert await fresh.ack() is True
    assert await work.left(topology.work_queue(WORK)) == 0


async def test_a_hundred_acknowledgements_on_a_line_that_dies_end(broker, topology: Topology, work: Bench) -> None:
    """aiormq's write queue holds ten frames; who waits for room in it must be let go when the writer is gone."""
    await fill(work, topology, 100)
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology, prefetch=100) as (_, hands):
        held = await hands.all(100)
        acks = [asyncio.create_task(delivery.ack()) for delivery in held]
        proxy.cut()
        async with asyncio.timeout(10):
            await asyncio.gather(*acks)


async def test_a_deleted_queue_is_declared_again_and_consumed_again(broker, topology: Topology, work: Bench) -> None:
    async with consuming(broker.url, topology) as (_, hands):
        for round_number in range(3):
            await work.delete(topology.work_queue(WORK))
            await work.publish_until_routed(topology.work, "0s", b"%d" % round_number)
            delivery = await hands.next()
            assert delivery.message.body == b"%d" % round_number
            assert await delivery.ack()


async def test_a_queue_deleted_in_the_moment_of_consuming_is_noticed(broker, topology: Topology, work: Bench) -> None:
    """The broker's word of it arrives before the connection counts as made."""
    async with consuming(broker.url, topology) as (consumer, hands):
        for _ in range(5):
            before = await consumer.consuming()
            consumer.widen(10)
            deleting = asyncio.create_task(work.delete(topology.work_queue(WORK)))
            await another_connection(consumer, before)
            await deleting
        await work.publish_until_routed(topology.work, "0s", b"there")
        assert (await hands.next()).message.body == b"there"


async def test_after_it_stopped_taking_nothing_comes_and_acknowledgements_still_count(
    broker, topology: Topology, work: Bench
) -> None:
    await fill(work, topology, 3)
    async with consuming(broker.url, topology, prefetch=3) as (consumer, hands):
        held = await hands.all(3)
        await consumer.stop_taking()
        await consumer.stop_taking()
        for delivery in held:
            assert await delivery.ack()
        await work.publish(topology.work, "0s", b"for others")
        assert await work.left(topology.work_queue(WORK)) == 1
        assert hands.untaken == 0


async def test_it_takes_nothing_after_a_cut_when_it_was_told_to_stop(broker, topology: Topology, work: Bench) -> None:
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (consumer, hands):
        before = await consumer.consuming()
        await consumer.stop_taking()
        proxy.cut()
        await another_connection(consumer, before)
        await work.publish(topology.work, "0s")
        assert await work.left(topology.work_queue(WORK)) == 1
        assert hands.untaken == 0


@pytest.mark.parametrize("sent", [1, 600, 1200, 1800, *range(2300, 2528, 25), 2527])
async def test_told_to_stop_in_any_moment_of_a_new_connection_it_takes_nothing(
    broker, topology: Topology, work: Bench, sent: int
) -> None:
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (consumer, _):
        proxy.cut()
        await proxy.connected(1)
        await proxy.asked(sent)
        async with asyncio.timeout(10):
            await consumer.stop_taking()
            await consumer.consuming()
        assert await work.left(topology.work_queue(WORK)) == 0  # waits until it has no consumer


@pytest.mark.parametrize("sent", [1, 500, 1000, 1500, 2000, 2400, 2527])
async def test_closing_ends_in_any_moment_of_a_new_connection(
    broker, topology: Topology, work: Bench, sent: int
) -> None:
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (consumer, _):
        proxy.cut()
        await proxy.connected(1)
        await proxy.asked(sent)
        async with asyncio.timeout(5):
            await consumer.close()


async def test_closing_ends_in_the_moment_in_which_the_broker_answers(broker, topology: Topology, work: Bench) -> None:
    """In Python 3.11 wait_for loses a cancellation that comes together with the answer."""
    await fill(work, topology, 3)
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (consumer, hands):
        await hands.all(3)
        proxy.cut()
        await hands.all(3)  # the last of them arrives in one piece with the answer to the consume
        async with asyncio.timeout(0.9):
            await consumer.close()


async def test_stopping_without_a_connection_takes_no_time(broker, topology: Topology, work: Bench) -> None:
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (consumer, _):
        proxy.refusing = True
        proxy.cut()
        await proxy.connected(1)
        async with asyncio.timeout(0.5):
            await consumer.stop_taking()


async def test_a_wider_prefetch_counts_at_once_and_what_is_held_comes_again(
    broker, topology: Topology, work: Bench
) -> None:
    await fill(work, topology, 20)
    async with consuming(broker.url, topology, prefetch=2) as (consumer, hands):
        held = await hands.all(2)
        consumer.widen(15)
        again = await hands.all(15)
        assert all(delivery.stale for delivery in held)
        assert [delivery.redelivered for delivery in again] == [True] * 2 + [False] * 13
        assert await work.ready(topology.work_queue(WORK)) == 5


async def test_a_prefetch_widened_while_the_connection_is_being_made_counts(
    broker, topology: Topology, work: Bench
) -> None:
    await fill(work, topology, 30)
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology, prefetch=2) as (consumer, hands):
        for _ in range(3):
            proxy.cut()
            await proxy.connected(1)
            await proxy.asked(600)
        consumer.widen(25)
        async with asyncio.timeout(10):
            await consumer.consuming()
        fresh = []
        while len(fresh) < 25:
            delivery = await hands.next()
            if not delivery.stale:
                fresh.append(delivery)
        assert await work.ready(topology.work_queue(WORK)) == 5


async def test_the_second_of_two_addresses_serves_when_the_first_one_dies(
    broker, topology: Topology, work: Bench
) -> None:
    async with (
        Proxy(broker.url) as first,
        Proxy(broker.url) as second,
        consuming([first.url, second.url], topology) as (_, hands),
    ):
        first.refusing = True
        first.cut()
        await second.connected(1)
        await work.publish(topology.work, "0s", b"moved")
        assert (await hands.next()).message.body == b"moved"
