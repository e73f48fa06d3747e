"""The topology as it stands on a real broker: declared, declared again, in conflict, and what passes through it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from queues import Bench

from notifier.broker.connection import Link
from notifier.broker.declare import declare
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.errors import DelayMechanismMissing, TopologyConflict


async def declared(url: str, topology: Topology) -> None:
    link = Link([url], "test", lambda channel: declare(channel, topology))
    await link.start(10)
    await link.close()


async def test_declaring_twice_changes_nothing_and_keeps_what_waits(broker, topology: Topology, bench: Bench) -> None:
    await declared(broker.url, topology)
    await bench.publish(topology.work, "5s", b"kept")
    await declared(broker.url, topology)
    assert await bench.ready(topology.work_queue(Tier(5))) == 1


async def test_two_may_declare_at_the_same_time(broker, topology: Topology, bench: Bench) -> None:
    await asyncio.gather(*(declared(broker.url, topology) for _ in range(5)))
    assert [await bench.ready(queue.name) for queue in topology.queues] == [0] * len(topology.queues)


async def test_a_queue_with_another_delay_is_explained(broker, topology: Topology, bench: Bench) -> None:
    waiting = topology.wait_queue(Tier(5))
    ours = next(queue for queue in topology.queues if queue.name == waiting)
    await bench.queue(waiting, **{**ours.arguments, "x-message-ttl": 6000})
    with pytest.raises(TopologyConflict) as conflict:
        await declared(broker.url, topology)
    said = str(conflict.value)
    for part in (
        f"queue {waiting} stands on the broker with another x-message-ttl",
        "notifier's is 5000, the broker's is 6000",
        "choose another NOTIFIER_NAMESPACE",
        f"rabbitmqctl delete_queue {waiting}",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x-delivery-limit": 3}, "another x-delivery-limit: notifier's is 200, the broker's is 3"),
        ({"x-delivery-limit": None}, "another x-delivery-limit: notifier's is 200, the broker's is none"),
        ({"x-dead-letter-exchange": "a"}, "another x-dead-letter-exchange: notifier's is empty, the broker's is a"),
        ({"x-expires": 60_000}, "another x-expires: notifier's is none, the broker's is 60000"),
    ],
)
async def test_a_work_queue_with_other_arguments_is_explained(
    broker, topology: Topology, bench: Bench, changed: dict[str, str | int | None], said: str
) -> None:
    work = next(queue for queue in topology.queues if queue.name == topology.work_queue(Tier(1)))
    arguments = {name: value for name, value in {**work.arguments, **changed}.items() if value is not None}
    await bench.queue(work.name, **arguments)
    with pytest.raises(TopologyConflict) as conflict:
        await declared(broker.url, topology)
    assert f"queue {work.name} stands on the broker with {said}." in str(conflict.value)


async def test_a_classic_queue_in_the_place_of_ours_is_explained(broker, topology: Topology, bench: Bench) -> None:
    await bench.queue(topology.ledger, **{"x-queue-type": "classic"})
    with pytest.raises(TopologyConflict, match=f"queue {topology.ledger} stands on the broker with another"):
        await declared(broker.url, topology)


async def test_an_exchange_of_another_kind_is_explained(broker, topology: Topology, bench: Bench) -> None:
    await bench.exchange(topology.wait, "topic")
    with pytest.raises(TopologyConflict) as conflict:
        await declared(broker.url, topology)
    said = str(conflict.value)
    assert f"exchange {topology.wait} stands on the broker with another type" in said
    assert "notifier's is direct, the broker's is topic" in said


async def test_the_plugin_mechanism_is_declared_or_its_absence_explained(
    broker, topology: Topology, bench: Bench
) -> None:
    plugin = replace(topology, mechanism="plugin")
    if await bench.offers_delayed():
        await declared(broker.url, plugin)
        await bench.publish(plugin.delayed, "1s", b"waited", {"x-delay": 1000}, mandatory=False)
        (message,) = await bench.take(plugin.work_queue(Tier(1)))
        assert message.body == b"waited"
    else:
        with pytest.raises(DelayMechanismMissing, match="enable the plugin rabbitmq_delayed_message_exchange"):
            await declared(broker.url, plugin)


async def test_work_stands_before_anything_waits(broker, topology: Topology, bench: Bench) -> None:
    """A wait queue that cannot be declared leaves all work queues bound: nothing can expire into nowhere."""
    await bench.queue(topology.wait_queue(Tier(1)), **{"x-message-ttl": 1})
    with pytest.raises(TopologyConflict):
        await declared(broker.url, topology)
    assert [await bench.ready(topology.work_queue(tier)) for tier in topology.tiers] == [0, 0, 0]
    with pytest.raises(ChannelNotFoundEntity):
        await bench.ready(topology.wait_queue(Tier(5)))


async def test_no_delay_passes_straight_through_the_wait_exchange(broker, topology: Topology, bench: Bench) -> None:
    await declared(broker.url, topology)
    await bench.publish(topology.wait, "0s", b"now")
    (message,) = await bench.take(topology.work_queue(Tier(0)))
    assert message.body == b"now"


@pytest.mark.alone
async def test_a_plain_client_s_messages_arrive_after_their_delay_and_never_early(
    broker, topology, bench: Bench
) -> None:
    await declared(broker.url, topology)
    for _ in range(3):  # what else runs on this machine may keep it busy for a while
        waited = await waits_of_forty(bench, topology)
        assert waited[0] >= 1.0
        if waited[-1] < 1.25:
            break
    assert waited[-1] < 1.25


async def waits_of_forty(bench: Bench, topology: Topology) -> list[float]:
    """Seconds between publishing and arriving, sorted."""
    published = {}
    for number in range(40):
        published[f"m{number}"] = time.monotonic()
        await bench.publish(topology.wait, "1s", b"%d" % number, {"merchant": "m"}, message_id=f"m{number}")
    arrived = {}
    async for message in bench.stream(topology.work_queue(Tier(1)), 40):
        arrived[message.message_id] = time.monotonic()
    return sorted(arrived[number] - published[number] for number in published)


async def test_an_expired_message_carries_its_tier_as_key_whichever_way_it_came(
    broker, topology: Topology, bench: Bench
) -> None:
    await declared(broker.url, topology)
    await bench.publish("", topology.wait_queue(Tier(1)), b"by the default exchange")
    (message,) = await bench.take_raw(topology.work_queue(Tier(1)))
    assert (message.exchange, message.routing_key) == (topology.work, "1s")


async def test_a_tier_without_a_process_is_refused_at_the_door(broker, topology: Topology, bench: Bench) -> None:
    await declared(broker.url, topology)
    with pytest.raises(Exception, match="NO_ROUTE"):
        await bench.publish(topology.wait, "7s")
