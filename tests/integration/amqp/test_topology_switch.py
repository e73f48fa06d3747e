"""The plugin on a broker that offers it, and changing from one mechanism to the other while messages wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from publishing import message, publishing
from queues import Bench
from room import Scripted, at_work

from notifier.broker.topology import Topology
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier

pytestmark = pytest.mark.plugin

SECOND, LATER = Tier(1), Tier(5)


async def wait_in(url: str, topology: Topology, tier: Tier, names: list[str]) -> None:
    """Publish messages that wait as the topology's mechanism makes them."""
    async with publishing(url, topology) as publisher:
        await asyncio.gather(*(publisher.publish_by(topology.way(tier), message(name)) for name in names))


@pytest.mark.parametrize(("before", "after"), [("native", "plugin"), ("plugin", "native")])
async def test_switching_strands_nothing(broker, topology, bench: Bench, before, after) -> None:
    old, new = replace(topology, mechanism=before), replace(topology, mechanism=after)
    await wait_in(broker.url, old, SECOND, [f"old {number}" for number in range(20)])
    await wait_in(broker.url, new, SECOND, [f"new {number}" for number in range(20)])
    arrived = {each.body.decode() for each in await bench.take(topology.work_queue(SECOND), 40)}
    assert arrived == {f"{age} {number}" for age in ("old", "new") for number in range(20)}


async def test_the_plugin_s_messages_arrive_after_their_delay_and_never_early(broker, topology, bench: Bench) -> None:
    plugin = replace(topology, mechanism="plugin")
    async with publishing(broker.url, plugin) as publisher:
        published = {}
        for number in range(20):
            published[b"%d" % number] = time.monotonic()
            await publisher.publish_by(plugin.way(SECOND), message(b"%d" % number))
        waited = [time.monotonic() - published[each.body] async for each in bench.stream(plugin.work_queue(SECOND), 20)]
    assert min(waited) >= 1.0
    assert max(waited) < 1.25


async def test_a_ladder_is_climbed_by_the_plugin(broker, topology: Topology, bench: Bench) -> None:
    """The delay comes back negated in a header; copied, it would mean "no delay"."""
    plugin = replace(topology, mechanism="plugin")
    first, second = Scripted(Outcome.failed("no")), Scripted(Outcome.failed("no"))
    async with (
        at_work(broker.url, plugin, first) as started,
        at_work(broker.url, plugin, second, tier=SECOND) as climbed,
    ):
        headers = {"merchant": "m1", "ladder": "0s,1s,5s"}
        await bench.publish(plugin.work, "0s", b"{}", headers, message_id="n1")
        await started.settled()
        (notification,) = await climbed.settled()
        assert notification.extra == {}
        assert (notification.step, notification.attempt) == (1, 2)
        assert "x-delay" in climbed.deliveries[0].message.headers
    assert await bench.ready(topology.wait_queue(LATER)) == 0
