"""Deleting what is not used any more: only if it is empty, whatever comes in at the last moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiormq.channel import Channel
from publishing import message, publishing
from queues import Bench

from notifier.broker import pruning, record, reshaping
from notifier.broker.consumer import Consumer
from notifier.broker.inspect import Look, QueueState
from notifier.broker.pruning import Pruned, prune
from notifier.broker.record import Recorded
from notifier.broker.reshaping import change_partitions
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier

KEPT, GONE = Tier(5), Tier(1)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else connects here, and no process has to finish."""
    monkeypatch.setattr(reshaping, "GRACE", 0.05)
    monkeypatch.setattr(pruning, "LEAVE", 1.0)
    monkeypatch.setattr(pruning, "_BLINK", 0.05)


@pytest.fixture
def lean(topology: Topology) -> Topology:
    """The ladder of today: 1s is in it no more."""
    return replace(topology, tiers=(Tier(0), KEPT))


@pytest.fixture
async def grown(broker, topology: Topology) -> None:
    """All three tiers stand."""
    async with publishing(broker.url, topology):
        pass


async def pruned(url: str, topology: Topology, told: Callable[[str], None] = lambda _: None) -> Pruned:
    return await prune([url], topology, 10, 0, told)


async def recorded(url: str, topology: Topology) -> Recorded:
    async with record.reading([url], topology, "test", 10) as reading:
        return await reading.read()


async def test_an_empty_tier_is_deleted_with_all_that_led_to_it(
    broker, topology: Topology, lean: Topology, bench: Bench, grown
) -> None:
    assert await pruned(broker.url, lean) == Pruned(gone=["tier 1s"])
    assert not await bench.stands(topology.wait_queue(GONE))
    assert not await bench.stands(topology.work_queue(GONE))
    assert (await recorded(broker.url, topology)).tiers == lean.tiers
    with pytest.raises(Exception, match="NO_ROUTE"):
        await bench.publish(topology.wait, "1s")
    assert await bench.stands(topology.wait_queue(KEPT))


async def test_a_tier_that_comes_back_is_as_before(broker, topology, lean, bench: Bench, grown) -> None:
    await pruned(broker.url, lean)
    async with publishing(broker.url, topology) as publisher:
        await publisher.publish_by(topology.way(GONE), message(b"again"))
    assert GONE in (await recorded(broker.url, topology)).tiers
    assert [each.body for each in await bench.take(topology.work_queue(GONE))] == [b"again"]


@pytest.mark.parametrize("where", ["wait", "work"])
async def test_a_tier_that_holds_something_stays_untouched(
    broker, topology, lean, bench: Bench, grown, where: str
) -> None:
    await bench.publish(f"{topology.namespace}.{where}", "1s", b"waits")
    done = await pruned(broker.url, lean)
    assert (done.gone, list(done.kept)) == ([], ["tier 1s"])
    assert done.kept["tier 1s"].startswith("1 in ")
    await bench.publish(topology.wait, "1s", b"still open")
    assert {each.body for each in await bench.take(topology.work_queue(GONE), 2)} == {b"waits", b"still open"}


async def test_a_queue_whose_busy_leader_makes_it_seem_empty_stays(
    broker, topology, lean, bench: Bench, grown, monkeypatch
) -> None:
    """RabbitMQ says 0 messages and 0 consumers when a leader does not answer within 250 ms."""
    held, look = topology.work_queue(GONE), Look.queue
    await bench.publish(topology.work, "1s", b"waits")
    silent = iter(range(4))  # once before it is watched, twice meanwhile, once before it is deleted

    async def busy(self: Look, name: str) -> QueueState | None:
        return QueueState(0, 0) if name == held and next(silent, None) is not None else await look(self, name)

    monkeypatch.setattr(Look, "queue", busy)
    done = await pruned(broker.url, lean)
    assert next(silent, None) is None, "it was asked so often"
    assert done == Pruned(kept={"tier 1s": f"something came in: 1 in {held}"})
    assert [each.body for each in await bench.take(held)] == [b"waits"]


async def test_what_comes_in_while_it_is_watched_keeps_it(broker, topology, lean, bench: Bench, grown) -> None:
    """Another machine that still has the tier in a ladder declares it again, and publishes."""
    publishes: list[asyncio.Task[None]] = []

    async def publish() -> None:
        async with publishing(broker.url, topology) as publisher:
            await publisher.publish_by(topology.way(GONE), message(b"late"))

    def begin(_: str) -> None:
        publishes.append(asyncio.create_task(publish()))

    done = await prune([broker.url], lean, 10, 3, begin)
    await asyncio.gather(*publishes)
    assert done.kept["tier 1s"].startswith("something came in: 1 in ")
    assert [each.body for each in await bench.take(topology.work_queue(GONE))] == [b"late"]
    assert GONE in (await recorded(broker.url, topology)).tiers


@pytest.mark.parametrize("where", ["wait", "work"])
async def test_what_comes_in_at_the_very_moment_of_the_deletion_is_not_lost(
    broker, topology, lean, bench: Bench, grown, monkeypatch, where: str
) -> None:
    queue = f"{topology.namespace}.{where}.1s"
    delete = Channel.queue_delete

    async def published_before(channel: Channel, name: str = "", *arguments, **named):
        if name == queue:
            await bench.publish("", queue, b"last", {"merchant": "m", "kept": "yes"}, message_id="last-1")
        return await delete(channel, name, *arguments, **named)

    monkeypatch.setattr(Channel, "queue_delete", published_before)
    done = await pruned(broker.url, lean)
    assert done.kept == {"tier 1s": "something came in while it was deleted; it is there again"}
    monkeypatch.undo()
    (last,) = await bench.take(topology.work_queue(GONE))
    assert (last.body, last.message_id, last.headers["kept"]) == (b"last", "last-1", "yes")
    assert GONE in (await recorded(broker.url, topology)).tiers
    await bench.publish(topology.wait, "1s", b"open again")
    await bench.take(topology.work_queue(GONE))


async def test_what_comes_in_at_the_last_moment_survives_a_cancellation_of_the_prune(
    broker, topology, lean, bench: Bench, grown, monkeypatch
) -> None:
    delete = Channel.queue_delete

    async def cancelled_meanwhile(channel: Channel, name: str = "", *arguments, **named):
        if name == topology.work_queue(GONE):
            await bench.publish("", name, b"last", message_id="last-1")
        deleted = await delete(channel, name, *arguments, **named)
        if name == topology.work_queue(GONE):
            prunes.cancel()
        return deleted

    monkeypatch.setattr(Channel, "queue_delete", cancelled_meanwhile)
    prunes = asyncio.create_task(pruned(broker.url, lean))
    await asyncio.wait([prunes])
    monkeypatch.undo()
    assert prunes.cancelled()
    assert [each.body for each in await bench.take(topology.work_queue(GONE))] == [b"last"]


async def test_what_a_service_still_consumes_stays_and_goes_on_being_fed(
    broker, topology, lean, bench: Bench, grown
) -> None:
    came: asyncio.Queue[object] = asyncio.Queue()
    consumer = Consumer([broker.url], topology, topology.work_queue(GONE), 5, came.put_nowait)
    await consumer.start(10)
    try:
        done = await pruned(broker.url, lean)
        await bench.publish(topology.wait, "1s")
        await asyncio.wait_for(came.get(), 10)
    finally:
        await consumer.close()
    assert "is still consumed" in done.kept["tier 1s"]


async def test_messages_in_the_hands_of_a_cancelled_consumer_keep_it(
    broker, topology, lean, bench: Bench, grown
) -> None:
    """They are neither ready nor consumed, and would be lost with the queue if their process died."""
    came: asyncio.Queue[object] = asyncio.Queue()
    consumer = Consumer([broker.url], topology, topology.work_queue(GONE), 5, came.put_nowait)
    await consumer.start(10)
    try:
        await bench.publish(topology.work, "1s")
        await came.get()
        await consumer.stop_taking()
        done = await pruned(broker.url, lean)
    finally:
        await consumer.close()
    assert list(done.kept) == ["tier 1s"]
    await bench.take(topology.work_queue(GONE))


async def test_partitions_of_before_go_together_and_the_record_forgets_their_numbers(
    broker, topology, bench: Bench, grown
) -> None:
    two = replace(topology, partitions=2)
    await bench.publish(topology.work, "5s", b"of before", {"merchant": "m"})
    await change_partitions([broker.url], two, 10, lambda _: None)
    done = await pruned(broker.url, two)
    assert list(done.kept) == ["partitions of before"]
    assert (await recorded(broker.url, topology)).had == (1, 2)
    assert [each.body for each in await bench.take(topology.work_queue(KEPT))] == [b"of before"]
    assert await pruned(broker.url, two) == Pruned(gone=["partitions of before"])
    assert (await recorded(broker.url, topology)).had == (2,)
    assert [await bench.stands(topology.work_queue(tier)) for tier in topology.tiers] == [False] * 3
    await bench.publish(topology.work, "5s", b"now", {"merchant": "m"})


async def test_a_prune_that_dies_half_way_leaves_everything_to_the_next_one(
    broker, topology, lean, grown, monkeypatch
) -> None:
    delete = Channel.queue_delete

    async def dying(channel: Channel, name: str = "", *arguments, **named):
        if name == topology.work_queue(GONE):
            raise RuntimeError("it died")
        return await delete(channel, name, *arguments, **named)

    monkeypatch.setattr(Channel, "queue_delete", dying)
    with pytest.raises(RuntimeError, match="it died"):
        await pruned(broker.url, lean)
    monkeypatch.undo()
    assert GONE in (await recorded(broker.url, topology)).tiers
    monkeypatch.setattr(reshaping, "GRACE", 0.05)
    assert await pruned(broker.url, lean) == Pruned(gone=["tier 1s"])
    async with publishing(broker.url, lean):  # the mark stands again
        pass
