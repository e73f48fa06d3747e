"""Confirmed publishing while the broker is well: what a return means, and every way in which it refuses."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter

import pytest
from publishing import message, publishing
from queues import Bench

from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology, Way
from notifier.domain.tier import Tier
from notifier.domain.wire import Message
from notifier.errors import MessageTooLarge, PublishRefused, Unroutable

WORK = Tier(0)


async def fill(publisher: Publisher, queue: str) -> None:
    """Publish until the queue refuses: a quorum queue lets a few more in than its limit."""

    async def publish_on() -> None:
        for _ in range(100):
            await publisher.publish(message(b"before"), "", queue)

    with pytest.raises(PublishRefused, match=re.escape(f"refused a message for '{queue}' on exchange (default)")):
        await publish_on()


async def test_a_return_means_that_the_message_is_on_the_broker(broker, topology: Topology, bench: Bench) -> None:
    async with publishing(broker.url, topology) as publisher:
        await publisher.publish(message(b"paid"), topology.work, "0s")
        assert await bench.ready(topology.work_queue(WORK)) == 1


async def test_what_is_published_arrives_as_it_was_and_survives_a_restart(broker, topology, bench: Bench) -> None:
    sent = Message(b"\x00\xff paid", {"merchant": "m", "step": 2}, "text/plain", "id-1", "c-1")
    async with publishing(broker.url, topology) as publisher:
        await publisher.publish(sent, topology.work, "0s")
    (raw,) = await bench.take_raw(topology.work_queue(WORK))
    assert (raw.body, dict(raw.headers), raw.content_type) == (sent.body, dict(sent.headers), "text/plain")
    assert (raw.message_id, raw.correlation_id, raw.delivery_mode) == ("id-1", "c-1", 2)


async def test_hundreds_are_in_flight_at_once_and_each_arrives_once(broker, topology, bench: Bench) -> None:
    bodies = [b"%d" % number for number in range(600)]
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        await asyncio.gather(*(publisher.publish(message(body), topology.work, "0s") for body in bodies))
        assert await bench.ready(topology.work_queue(WORK)) == 600
        assert publisher._unconfirmed == {}
    arrived = Counter([each.body for each in await bench.take(topology.work_queue(WORK), 600)])
    assert arrived == Counter(bodies)


async def test_large_and_small_ones_go_together(broker, topology: Topology, bench: Bench) -> None:
    bodies = [bytes([number]) * (1 + number % 5 * 100_000) for number in range(40)]
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        await asyncio.gather(*(publisher.publish(message(body), topology.work, "0s") for body in bodies))
    assert Counter(each.body for each in await bench.take(topology.work_queue(WORK), 40)) == Counter(bodies)


async def test_a_message_without_a_queue_is_unroutable(broker, topology: Topology) -> None:
    async with publishing(broker.url, topology) as publisher:
        with pytest.raises(Unroutable, match=f"no queue is bound for '9s' on exchange {topology.work}"):
            await publisher.publish(message(), topology.work, "9s")


async def test_unroutable_ones_do_not_disturb_those_beside_them(broker, topology: Topology, bench: Bench) -> None:
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        keys = ["0s", "9s"] * 100
        done = await asyncio.gather(
            *(publisher.publish(message(), topology.work, key) for key in keys), return_exceptions=True
        )
    assert [type(each) for each in done] == [type(None), Unroutable] * 100
    assert await bench.ready(topology.work_queue(WORK)) == 100


async def test_a_queue_at_its_length_limit_refuses_and_harms_nobody(broker, topology, bench: Bench) -> None:
    full = f"{topology.namespace}.full"
    await bench.queue(full, **{"x-max-length": 2, "x-overflow": "reject-publish"})
    try:
        async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
            await fill(publisher, full)
            done = await asyncio.gather(
                *(publisher.publish(message(), "", full) for _ in range(50)),
                *(publisher.publish(message(), topology.work, "0s") for _ in range(50)),
                return_exceptions=True,
            )
        assert [type(each) for each in done] == [PublishRefused] * 50 + [type(None)] * 50
        assert await bench.ready(topology.work_queue(WORK)) == 50
    finally:
        await bench.delete(full)


async def test_a_missing_exchange_of_others_is_told_and_harms_nobody(broker, topology, bench: Bench) -> None:
    """The broker closes the channel for it, under everything that is in flight."""
    nowhere = f"nowhere-{secrets.token_hex(4)}"
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        done = await asyncio.gather(
            *(publisher.publish(message(b"%d" % n), topology.work, "0s") for n in range(100)),
            publisher.publish(message(), nowhere, "0s"),
            *(publisher.publish(message(b"%d" % n), topology.work, "0s") for n in range(100, 200)),
            return_exceptions=True,
        )
    (told,) = [each for each in done if each is not None]
    assert isinstance(told, Unroutable)
    assert str(told) == f"the broker has no exchange {nowhere}"
    arrived = await bench.take(topology.work_queue(WORK), await bench.ready(topology.work_queue(WORK)))
    assert {each.body for each in arrived} == {b"%d" % n for n in range(200)}


async def test_a_deleted_exchange_of_ours_is_declared_again(broker, topology: Topology, bench: Bench) -> None:
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        await bench.delete_exchange(topology.work)
        await publisher.publish(message(b"healed"), topology.work, "0s")
    (arrived,) = await bench.take(topology.work_queue(WORK))
    assert arrived.body == b"healed"


async def test_who_insists_gets_a_deleted_queue_declared_again(broker, topology: Topology, bench: Bench) -> None:
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        await bench.delete(topology.work_queue(WORK))
        await publisher.insist_by(Way(topology.work, "0s"), message(b"healed"))
    (arrived,) = await bench.take(topology.work_queue(WORK))
    assert arrived.body == b"healed"


async def test_who_insists_is_heard_when_a_full_queue_has_room_again(broker, topology: Topology, bench: Bench) -> None:
    full = f"{topology.namespace}.full"
    await bench.queue(full, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    try:
        async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
            await fill(publisher, full)
            insisting = asyncio.create_task(publisher.insist_by(Way("", full), message(b"insisted")))
            done, _ = await asyncio.wait([insisting], timeout=0.3)
            assert not done
            await bench.take(full, await bench.ready(full))
            await insisting
            (arrived,) = await bench.take(full)
            assert arrived.body == b"insisted"
    finally:
        await bench.delete(full)


async def test_headers_too_large_for_a_frame_are_refused_before_they_end_the_connection(
    broker, topology: Topology, bench: Bench
) -> None:
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        before = await publisher._link.channel()
        with pytest.raises(MessageTooLarge, match=r"the headers of a message hold 140,0\d\d bytes: the broker takes"):
            await publisher.publish(message(b"", note="x" * 140_000), topology.work, "0s")
        await publisher.publish(message(b"", note="x" * 130_000), topology.work, "0s")
        await publisher.publish(message(b"", note=["x" * 100] * 100), topology.work, "0s")
        assert await publisher._link.channel() is before
    assert await bench.ready(topology.work_queue(WORK)) == 2


async def test_a_publish_needs_a_message_id(broker, topology: Topology) -> None:
    async with publishing(broker.url, topology) as publisher:
        with pytest.raises(ValueError, match="message_id"):
            await publisher.publish(Message(b""), topology.work, "0s")


async def test_publishes_given_up_by_their_owners_harm_nobody(broker, topology: Topology, bench: Bench) -> None:
    async with publishing(broker.url, topology) as publisher, asyncio.timeout(20):
        for turns in range(12):  # given up in every moment between the call and its confirm
            publishes = [
                asyncio.create_task(publisher.publish(message(b"x" * (n % 2 * 20_000)), topology.work, "0s"))
                for n in range(30)
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for publish in publishes[::2]:
                publish.cancel()
            done = await asyncio.gather(*publishes, return_exceptions=True)
            assert all(each is None for each in done[1::2])
        assert publisher._unconfirmed == {}
        assert await bench.ready(topology.work_queue(WORK)) >= 12 * 15
