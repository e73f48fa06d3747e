"""A consumer that stops and takes again, and what it gives back, on a real broker."""

from __future__ import annotations

import asyncio

import pytest
from proxy import Proxy
from queues import Bench
from room import AT_ONCE, Scripted, at_work
from test_consumer import WORK, consuming, fill

from notifier.broker.connection import open_once
from notifier.broker.declare import declare
from notifier.broker.topology import Topology


@pytest.fixture
async def work(broker, topology: Topology, bench: Bench) -> Bench:
    """A bench, with the topology declared."""
    link = await open_once([broker.url], "test", patience=10)
    await declare(await link.channel(), topology)
    await link.close()
    return bench


async def until_ready(work: Bench, queue: str, count: int) -> None:
    async with asyncio.timeout(10):
        while await work.ready(queue) != count:
            pass


async def test_what_is_given_back_is_in_the_queue_again_and_comes_when_it_takes_again(
    broker, topology: Topology, work: Bench
) -> None:
    await fill(work, topology, 5)
    async with consuming(broker.url, topology) as (consumer, hands):
        held = await hands.all(5)
        assert await consumer.stop_taking()
        for delivery in held[1:]:
            await delivery.give_back()
        await until_ready(work, topology.work_queue(WORK), 4)
        assert await held[0].ack()
        await consumer.take_again()
        again = await hands.all(4)
        assert {delivery.message.body for delivery in again} == {delivery.message.body for delivery in held[1:]}
        assert all(delivery.redelivered for delivery in again)
        assert not held[0].stale, "the connection is the same"


async def test_taking_is_another_time_of_taking_after_a_stop_and_waits_meanwhile(
    broker, topology: Topology, work: Bench
) -> None:
    async with consuming(broker.url, topology) as (consumer, _):
        before = await consumer.taking()
        await consumer.stop_taking()
        waiting = asyncio.create_task(consumer.taking())
        await consumer.consuming()
        assert not waiting.done()
        await consumer.take_again()
        assert await waiting != before


@pytest.mark.parametrize("sent", range(0, 900, 100))
async def test_told_to_take_again_in_any_moment_of_a_new_connection_it_does(
    broker, topology: Topology, work: Bench, sent: int
) -> None:
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (consumer, hands):
        await consumer.stop_taking()
        await fill(work, topology, 3)
        proxy.cut()
        await proxy.connected(1)
        await proxy.asked(sent)
        async with asyncio.timeout(10):
            await consumer.take_again()
            await consumer.taking()
        await hands.all(3)


async def test_giving_back_a_stale_delivery_does_no_harm(broker, topology: Topology, work: Bench) -> None:
    await fill(work, topology, 1)
    async with Proxy(broker.url) as proxy, consuming(proxy.url, topology) as (_, hands):
        stale = await hands.next()
        proxy.cut()
        again = await hands.next()
        await stale.give_back()
        assert await again.ack()
    assert await work.left(topology.work_queue(WORK)) == 0


async def test_a_shut_room_starts_nothing_gives_back_what_waits_and_finishes_what_runs(
    broker, topology: Topology, work: Bench
) -> None:
    callback = Scripted()
    callback.gate.clear()
    async with at_work(broker.url, topology, callback) as stage:
        stage.room.turns.limit(2)
        for number in range(6):
            await work.publish(topology.work, "0s", b"%d" % number, {"merchant": "m"}, message_id=f"id-{number}")
        await callback.called(2)
        await stage.delivered(6)
        assert len(stage.room) == 6
        stage.room.shut()
        await stage.consumer.stop_taking()
        await stage.room.give_back()
        await until_ready(work, stage.queue, 4)
        assert len(stage.room) == 2
        callback.gate.set()
        await stage.drained()
        assert len(callback.calls) == 2
        stage.room.open()
        await stage.consumer.take_again()
        await callback.called(6)
        await stage.drained()
    assert await work.left(topology.work_queue(AT_ONCE)) == 0
    assert len({call.payload for call in callback.calls}) == len(callback.calls) == 6, "each once"
