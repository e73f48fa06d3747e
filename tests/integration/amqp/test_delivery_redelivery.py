"""A lost connection: the broker delivers everything unacknowledged again, while coroutines and decisions still live.

Nobody is called twice for it, and no message is taken for another one.
"""

from __future__ import annotations

import asyncio

from proxy import Proxy
from queues import Bench
from room import Scripted, at_work

from notifier.broker.topology import Topology
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier

AT_ONCE, LATER = Tier(0), Tier(5)


async def test_a_redelivery_is_adopted_by_the_coroutine_that_runs(broker, topology: Topology, bench: Bench) -> None:
    callback = Scripted(Outcome.failed("no"))
    callback.gate.clear()
    async with Proxy(broker.url) as proxy, at_work(broker.url, topology, callback, consumer_urls=proxy.url) as stage:
        for number in range(20):
            await bench.publish(topology.work, "0s", b"{}", {"merchant": "m1"}, message_id=f"n{number}")
        await callback.called(20)
        proxy.cut()
        await stage.delivered(40)
        assert len(stage.room) == 20
        callback.gate.set()
        await stage.drained()
        await stage.consumer.close()
        assert len(callback.calls) == 20
        assert await bench.left(stage.queue) == 0  # acknowledged by the deliveries that were adopted
        assert await bench.ready(topology.wait_queue(LATER)) == 20


async def test_a_redelivery_is_adopted_after_three_cuts_as_well(broker, topology: Topology, bench: Bench) -> None:
    callback = Scripted()
    callback.gate.clear()
    async with Proxy(broker.url) as proxy, at_work(broker.url, topology, callback, consumer_urls=proxy.url) as stage:
        await bench.publish(topology.work, "0s", b"{}", {"merchant": "m1"}, message_id="n1")
        await callback.called()
        for cut in range(1, 4):
            proxy.cut()
            await stage.delivered(1 + cut)
        callback.gate.set()
        await stage.drained()
        await stage.consumer.close()
        assert len(callback.calls) == 1
        assert await bench.left(stage.queue) == 0


async def test_a_message_without_message_id_is_adopted_by_its_contents(broker, topology, bench: Bench) -> None:
    callback = Scripted()
    callback.gate.clear()
    async with Proxy(broker.url) as proxy, at_work(broker.url, topology, callback, consumer_urls=proxy.url) as stage:
        await bench.publish_bare(topology.work, "0s", b"{}", {"merchant": "m1", "notification": "n1"})
        await callback.called()
        for cut in range(1, 3):  # from the second delivery on the broker adds its count to the headers
            proxy.cut()
            await stage.delivered(1 + cut)
        callback.gate.set()
        await stage.drained()
        await stage.consumer.close()
        assert len(callback.calls) == 1
        assert await bench.left(stage.queue) == 0


async def test_a_settled_one_whose_ack_did_not_arrive_is_acknowledged_and_not_called_again(
    broker, topology: Topology, bench: Bench
) -> None:
    callback = Scripted(Outcome.failed("no"))
    async with Proxy(broker.url) as proxy, at_work(broker.url, topology, callback, consumer_urls=proxy.url) as stage:
        callback.gate.clear()
        for number in range(20):
            await bench.publish(topology.work, "0s", b"{}", {"merchant": "m1"}, message_id=f"n{number}")
        await callback.called(20)
        proxy.upward.clear()  # acks are written and do not arrive
        callback.gate.set()
        await stage.drained()
        proxy.cut()
        proxy.upward.set()
        await stage.delivered(40)
        await stage.drained()
        await stage.consumer.close()
        assert len(callback.calls) == 20
        assert await bench.left(stage.queue) == 0
        assert await bench.ready(topology.wait_queue(LATER)) == 20


async def test_two_messages_with_one_id_are_both_worked(broker, topology: Topology, bench: Bench) -> None:
    callback = Scripted(Outcome.ok())
    async with at_work(broker.url, topology, callback) as stage:
        await bench.publish(topology.work, "0s", b"paid", {"merchant": "m1"}, message_id="order-42")
        await stage.settled(1)
        await bench.publish(topology.work, "0s", b"refunded", {"merchant": "m1"}, message_id="order-42")
        await stage.settled(2)
        await stage.consumer.close()
    assert sorted(each.payload for each in callback.calls) == [b"paid", b"refunded"]
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


async def test_two_messages_with_one_id_are_told_apart_over_a_cut(broker, topology: Topology, bench: Bench) -> None:
    callback = Scripted(Outcome.ok())
    async with Proxy(broker.url) as proxy, at_work(broker.url, topology, callback, consumer_urls=proxy.url) as stage:
        await bench.publish(topology.work, "0s", b"paid", {"merchant": "m1"}, message_id="order-42")
        await stage.settled(1)
        callback.gate.clear()
        await bench.publish(topology.work, "0s", b"refunded", {"merchant": "m1"}, message_id="order-42")
        await callback.called(2)
        proxy.cut()
        await stage.delivered(3)  # redelivered, with the id of one that was settled
        assert len(stage.room) == 1
        assert await bench.ready(stage.queue) == 0
        await stage.room.abandon()  # the process dies: were it acknowledged for the other one, it would be lost
    assert await bench.left(topology.work_queue(AT_ONCE)) == 1


async def test_one_that_others_died_with_is_not_taken_for_a_settled_one_that_shares_its_id(
    broker, topology: Topology, bench: Bench
) -> None:
    callback = Scripted(Outcome.ok())
    async with at_work(broker.url, topology, callback, prefetch=1) as stage:
        await bench.publish(topology.work, "0s", b"paid", {"merchant": "m1"}, message_id="order-42")
        await stage.settled(1)
        callback.gate.clear()
        await bench.publish(topology.work, "0s", b"busy", {"merchant": "m1"}, message_id="busy")
        await callback.called(2)  # nothing more comes here for now
        await bench.publish(topology.work, "0s", b"refunded", {"merchant": "m1"}, message_id="order-42")
        await bench.die_with(stage.queue, 1)
        callback.gate.set()
        await stage.settled(3)
        assert stage.deliveries[-1].redelivered
    assert [each.payload for each in callback.calls] == [b"paid", b"busy", b"refunded"]
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


async def test_copies_that_a_repeated_publish_made_are_both_settled(broker, topology: Topology, bench: Bench) -> None:
    """At least once: the same message twice, side by side."""
    callback = Scripted(Outcome.ok())
    callback.gate.clear()
    async with Proxy(broker.url) as proxy, at_work(broker.url, topology, callback, consumer_urls=proxy.url) as stage:
        for _ in range(2):
            await bench.publish(topology.work, "0s", b"{}", {"merchant": "m1"}, message_id="same")
        await callback.called(2)
        proxy.cut()
        await stage.delivered(4)
        callback.gate.set()
        await stage.drained()
        await stage.consumer.close()
        assert len(callback.calls) == 2
        assert await bench.left(stage.queue) == 0


async def test_both_connections_cut_again_and_again_under_load_lose_nothing(broker, topology, bench: Bench) -> None:
    count = 150
    callback = Scripted(Outcome.failed("no"))
    async with Proxy(broker.url) as proxy, at_work(proxy.url, topology, callback, prefetch=40) as stage:
        publishing = asyncio.create_task(publish_many(bench, topology, count))
        for goal in (20, 60, 100):
            await callback.called(goal)
            proxy.cut()
        await publishing
        await callback.called(count, timeout=20)
        await stage.drained()
        await stage.consumer.close()
        assert await bench.left(stage.queue) == 0
        found: set[object] = set()
        # from where they arrive in the end: the first of them is there before the last one waits
        async with asyncio.timeout(60):
            while len(found) < count:
                there = await bench.ready(topology.work_queue(LATER))
                found |= {each.headers["notification"] for each in await bench.take(topology.work_queue(LATER), there)}
    assert found == {f"n{number}" for number in range(count)}
    assert len({call.id for call in callback.calls}) == len(callback.calls)  # nobody was called twice


async def publish_many(bench: Bench, topology: Topology, count: int) -> None:
    for number in range(count):
        await bench.publish(topology.work, "0s", b"{}", {"merchant": "m1"}, message_id=f"n{number}")
