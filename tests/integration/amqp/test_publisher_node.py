"""Publishing to a broker that is killed, that closes connections, that runs out of memory, that is set up tightly."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from urllib.parse import urlsplit

import pytest
from publishing import message, publishing
from queues import Bench

from notifier.broker import publisher as publisher_module
from notifier.broker.canary import Canary
from notifier.broker.consumer import Consumer, Delivery
from notifier.broker.declare import bind_one
from notifier.broker.node import PrivateNode
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Binding, Topology, Way
from notifier.domain.tier import Tier
from notifier.errors import ConfigurationError, MessageTooLarge, PublishRefused

WORK = Tier(0)
ROOMY = ("absolute", "1GiB")
#: RabbitMQ 3.10.8 writes the names of new quorum queues to disk within about a second. One that is younger when the
#: broker is killed loses what it confirmed, and stays without a leader for ever.
REMEMBERED = "dets:sync(ra_directory_reverse)."


async def raise_memory_alarm(node: PrivateNode) -> None:
    """Until the alarm has reached the connections: `rabbitmqctl` ends before, and what is published then passes."""
    await node.ctl("set_vm_memory_high_watermark", "0")
    while not {"blocking", "blocked"} & set((await node.ctl("-q", "list_connections", "state")).split()):
        pass


@pytest.fixture
def topology() -> Topology:
    return Topology(f"test-{secrets.token_hex(4)}", (WORK, Tier(1)))


async def test_a_killed_broker_has_everything_that_was_confirmed_and_gets_the_rest_again(
    own_node: PrivateNode, topology: Topology
) -> None:
    """A hundred producers, each with a publish in flight when the broker dies: so the kill always bites."""
    numbers = itertools.count()
    confirmed: set[bytes] = set()
    enough, killed = asyncio.Event(), asyncio.Event()

    async def publish_on(publisher: Publisher) -> None:
        while not killed.is_set():
            body = b"%d" % next(numbers)
            await publisher.publish(message(body), topology.work, "0s")
            confirmed.add(body)
            if len(confirmed) >= 300:
                enough.set()

    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(60):
        await own_node.write_queue_names()
        tasks = [asyncio.create_task(publish_on(publisher)) for _ in range(100)]
        await enough.wait()
        await own_node.kill()
        killed.set()
        before = set(confirmed)
        await own_node.restart()
        await asyncio.gather(*tasks)
        # A queue counts only what it has read of its log since the boot (measured: 0 to 993 of 1,000); what is
        # confirmed now stands behind all of it.
        await publisher.publish(message(b"%d" % next(numbers)), topology.work, "0s")
    everything = {b"%d" % number for number in range(next(numbers))}
    async with Bench.at(own_node.url) as bench:
        count = await bench.ready(topology.work_queue(WORK))
        arrived = Counter(each.body for each in await bench.take(topology.work_queue(WORK), count, timeout=60))
    assert len(everything) >= len(before) + 100
    assert set(arrived) == everything
    assert {arrived[body] for body in before} == {1}


async def test_connections_closed_by_the_operator_are_made_again(own_node: PrivateNode, topology: Topology) -> None:
    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(30):
        closing = asyncio.create_task(own_node.ctl("close_all_connections", "maintenance"))
        published = 0
        while not closing.done() or published % 100:
            await publisher.publish(message(b"%d" % published), topology.work, "0s")
            published += 1
        await closing
        await publisher.publish(message(b"after"), topology.work, "0s")
    async with Bench.at(own_node.url) as bench:
        count = await bench.ready(topology.work_queue(WORK))
        arrived = {each.body for each in await bench.take(topology.work_queue(WORK), count, timeout=30)}
    assert arrived == {b"after", *(b"%d" % number for number in range(published))}


async def test_under_a_memory_alarm_publishes_wait_and_acknowledgements_go_through(
    own_node: PrivateNode, topology: Topology
) -> None:
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    consumer = Consumer([own_node.url], topology, topology.work_queue(WORK), 1, taken.put_nowait)
    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(40):
        for number in range(5):
            await publisher.publish(message(b"%d" % number), topology.work, "0s")
        try:
            await raise_memory_alarm(own_node)
            waiting = [
                asyncio.create_task(publisher.publish(message(b"w" * 50_000), topology.work, "0s")) for _ in range(20)
            ]
            await consumer.start(10)
            for _ in range(5):  # with a prefetch of 1 the next one comes only after the ack of the one before
                assert await (await taken.get()).ack()
            assert not any(each.done() for each in waiting)
            assert publisher.blocked
        finally:
            await own_node.ctl("set_vm_memory_high_watermark", *ROOMY)
        await asyncio.gather(*waiting)
        assert not publisher.blocked
        for _ in range(20):
            assert await (await taken.get()).ack()
        await consumer.close()


async def test_a_message_that_the_broker_takes_at_no_size_of_it_is_told_once_to_its_owner(
    own_node: PrivateNode, topology: Topology
) -> None:
    """The broker closes the channel for it; without an end it would do so for ever, under everybody's publishes."""
    await own_node.ctl("eval", "application:set_env(rabbit, max_message_size, 100000).")
    try:
        async with publishing(own_node.url, topology) as publisher, asyncio.timeout(20):
            done = await asyncio.gather(
                *(publisher.publish(message(b"%d" % number), topology.work, "0s") for number in range(50)),
                publisher.insist_by(Way(topology.work, "0s"), message(b"x" * 100_001)),
                *(publisher.publish(message(b"%d" % number), topology.work, "0s") for number in range(50, 100)),
                return_exceptions=True,
            )
        (told,) = [each for each in done if each is not None]
        assert isinstance(told, MessageTooLarge)
        assert str(told) == "a message of 100,001 bytes: the broker takes at most 100000"
        async with Bench.at(own_node.url) as bench:
            count = await bench.ready(topology.work_queue(WORK))
            arrived = {each.body for each in await bench.take(topology.work_queue(WORK), count)}
        assert arrived == {b"%d" % number for number in range(100)}
    finally:
        await own_node.ctl("eval", "application:unset_env(rabbit, max_message_size).")


@pytest.mark.parametrize(
    ("permissions", "said"),
    [
        (["^none$", ".*", ".*"], "ACCESS_REFUSED - access to exchange"),
        (["^test", "^test", "^test"], "access to exchange 'amq.default'"),
    ],
    ids=["nothing may be declared", "the default exchange may not be written to"],
)
async def test_a_missing_permission_is_a_matter_of_configuration(
    own_node: PrivateNode, topology: Topology, permissions: list[str], said: str
) -> None:
    weak = f"weak-{secrets.token_hex(4)}"
    await own_node.ctl("add_user", weak, "hush")
    await own_node.ctl("set_permissions", weak, *permissions)
    address = urlsplit(own_node.url)
    publisher = Publisher([f"amqp://{weak}:hush@{address.hostname}:{address.port}/"], topology)
    with pytest.raises(ConfigurationError) as refused:
        await publisher.start(10)
    assert said in str(refused.value)
    assert "must be allowed to configure, write and read what begins with the namespace" in str(refused.value)
    assert "hush" not in str(refused.value)
    await publisher.close()


async def test_after_a_length_limit_was_taken_back_what_was_refused_is_published_all_the_same(
    own_node: PrivateNode, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 3.10.8 goes on refusing on the old channel for ever: the policy's end is told to nobody."""
    monkeypatch.setattr(publisher_module, "_DOUBT", 1.0)
    way, refused = Way(topology.work, "0s"), 0
    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(60):
        pattern = f"^{topology.work_queue(WORK)}$"
        await own_node.ctl("set_policy", "limit", pattern, '{"max-length":1}', "--apply-to", "queues")
        while not refused:  # a policy reaches its queue a moment after it was set
            try:
                await publisher.publish_by(way, message())
            except PublishRefused:
                refused += 1
        await own_node.ctl("clear_policy", "limit")
        await publisher.insist_by(way, message(b"refused"))
        await publisher.publish_by(way, message(b"after"))


async def test_a_canary_is_confirmed_and_reaches_no_queue_whatever_policies_there_are(
    own_node: PrivateNode, topology: Topology
) -> None:
    confirmed: asyncio.Queue[float] = asyncio.Queue()
    canary = Canary(topology.canary, confirmed.put_nowait)
    async with publishing(own_node.url, topology) as publisher, Bench.at(own_node.url) as bench, asyncio.timeout(30):
        caught = f"{topology.namespace}.caught"
        await bench.exchange(caught, "fanout")
        await bench.queue(caught)
        channel = await publisher._link.channel()
        await bind_one(channel, Binding(caught, caught, ""))
        policy = f'{{"alternate-exchange":"{caught}"}}'
        await own_node.ctl("set_policy", "catch", ".*", policy, "--apply-to", "exchanges")
        try:
            await bench.publish_until_routed(topology.work, "nowhere", b"caught")  # so the policy is in force
            for moment in (1.0, 2.0):
                canary.send(channel, moment)
                assert await confirmed.get() == moment
            await publisher.publish(message(b"behind"), "", caught)  # on the same channel: the queue has it after them
            assert await bench.ready(caught) == 2
            for queue in topology.queues:
                assert await bench.ready(queue.name) == 0
            assert not channel.is_closed
        finally:
            await own_node.ctl("clear_policy", "catch")
            await canary.close()


async def test_a_publish_that_the_broker_forgot_is_repeated_on_a_new_connection_without_other_traffic(
    own_node: PrivateNode, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fact is, for which everything else waits. The queue's process stands still here."""
    monkeypatch.setattr(publisher_module, "_FORGOTTEN", 1.0)
    monkeypatch.setattr(publisher_module, "_SILENCE", 0.3)
    process = f"whereis('%2F_{topology.ledger}')"
    way = Way("", topology.ledger)
    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(60):
        channel = await publisher._link.channel()
        await publisher.publish_by(way, message(b"[]"))  # the channel asks the queue only before its first
        await own_node.ctl("eval", f"sys:suspend({process}).")
        forgotten = asyncio.create_task(publisher.publish_by(way, message(b"[]")))
        try:
            await asyncio.wait([channel.closing])
            assert not forgotten.done()
        finally:
            await own_node.ctl("eval", f"sys:resume({process}).")
        await forgotten


@pytest.mark.long
async def test_a_publish_that_the_broker_forgot_while_it_confirmed_others_is_repeated_on_a_new_connection(
    own_node: PrivateNode, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue's process stands still here. RabbitMQ 3.10.8 forgets what meets a queue between two leaders."""
    monkeypatch.setattr(publisher_module, "_FORGOTTEN", 1.0)
    monkeypatch.setattr(publisher_module, "_SILENCE", 0.3)
    process = f"whereis('%2F_{topology.work_queue(WORK)}')"
    way = Way(topology.work, "0s")

    async def going_on(publisher: Publisher) -> None:
        while True:
            await publisher.publish_by(Way("", topology.ledger), message(b"[]"))

    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(60):
        channel = await publisher._link.channel()
        await publisher.publish_by(way, message(b"first"))  # the channel asks the queue only before its first
        await own_node.ctl("eval", f"sys:suspend({process}).")
        forgotten = asyncio.create_task(publisher.publish_by(way, message(b"forgotten")))
        others = asyncio.create_task(going_on(publisher))
        await asyncio.wait([channel.closing])
        assert not forgotten.done()
        others.cancel()
        await own_node.ctl("eval", f"sys:resume({process}).")
        await forgotten


@pytest.mark.long
async def test_while_the_broker_confirms_nothing_at_all_the_connection_is_kept(
    own_node: PrivateNode, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "_FORGOTTEN", 0.5)
    monkeypatch.setattr(publisher_module, "_SILENCE", 0.1)
    async with publishing(own_node.url, topology) as publisher, asyncio.timeout(60):
        channel = await publisher._link.channel()
        try:
            await raise_memory_alarm(own_node)
            waiting = [asyncio.create_task(publisher.publish_by(Way(topology.work, "0s"), message()))]
            for _ in range(20):  # twenty looks of the watch, with a newer one each
                await asyncio.sleep(0.1)
                waiting.append(asyncio.create_task(publisher.publish_by(Way("", topology.ledger), message(b"[]"))))
            assert not channel.is_closed
        finally:
            await own_node.ctl("set_vm_memory_high_watermark", *ROOMY)
        await asyncio.gather(*waiting)
        assert not channel.is_closed
