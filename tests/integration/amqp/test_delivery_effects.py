"""The order of effects is the promise: fact confirmed, then next tier confirmed, then the ack, which is the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from proxy import Proxy
from queues import Bench
from room import Scripted, Stage, at_work

from notifier.broker.consumer import Delivery
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

AT_ONCE, LATER = Tier(0), Tier(5)
REFUSED = Outcome.failed("no")


class Watched(Publisher):
    """A real publisher that keeps the order of effects, and lets the test stop each of them.

    gates: by the name of an effect, which waits until its gate is open.
    """

    def __init__(self, urls: Sequence[str], topology: Topology) -> None:
        super().__init__(urls, topology)
        self.order: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self._news = asyncio.Condition()

    async def publish(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool = True) -> None:
        name = f"tier {routing_key}" if exchange else routing_key.rpartition(".")[2]
        await self.about_to(name)
        await super().publish(message, exchange, routing_key, mandatory=mandatory)
        self.order.append(f"{name} confirmed")

    async def about_to(self, name: str) -> None:
        """Note it, and wait at its gate."""
        async with self._news:
            self.order.append(name)
            self._news.notify_all()
        if gate := self.gates.get(name):
            await gate.wait()

    def stop_at(self, name: str) -> None:
        """Let this effect wait."""
        self.gates[name] = asyncio.Event()

    async def reached(self, name: str) -> None:
        """Wait until it was about to happen."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: name in self.order)


class WatchedDelivery(Delivery):
    """A real delivery whose ack is an effect like the others."""

    __slots__ = ("_publisher",)

    def __init__(self, publisher: Publisher, real: Delivery) -> None:
        super().__init__(real.message, real.redelivered, real._channel, real._tag)
        assert isinstance(publisher, Watched)
        self._publisher = publisher

    async def ack(self) -> bool:
        await self._publisher.about_to("ack")
        return await super().ack()


@asynccontextmanager
async def watched(url: str, topology: Topology, callback: Scripted) -> AsyncIterator[tuple[Stage, Watched]]:
    async with at_work(url, topology, callback, publisher=Watched, wrapped=WatchedDelivery) as stage:
        assert isinstance(stage.publisher, Watched)
        yield stage, stage.publisher


async def one(bench: Bench, topology: Topology, **headers: Any) -> None:
    known = {"merchant": "m1", "notification": "n1", **headers}
    await bench.publish(topology.work, "0s", b"{}", known, message_id="id-1")


EFFECTS = ["ledger", "ledger confirmed", "tier 5s", "tier 5s confirmed", "ack"]


async def test_fact_then_next_tier_then_ack(broker, topology: Topology, bench: Bench) -> None:
    async with watched(broker.url, topology, Scripted(REFUSED)) as (stage, publisher):
        await one(bench, topology)
        await stage.settled()
        assert publisher.order == EFFECTS


async def test_an_end_is_told_before_the_ack(broker, topology: Topology, bench: Bench) -> None:
    async with watched(broker.url, topology, Scripted(Outcome.ok())) as (stage, publisher):
        await one(bench, topology)
        await stage.settled()
        assert publisher.order == ["ledger", "ledger confirmed", "ack"]


@pytest.mark.parametrize(
    ("effect", "facts", "waiting"), [("ledger", 0, 0), ("tier 5s", 1, 0), ("ack", 1, 1)], ids=["fact", "tier", "ack"]
)
async def test_who_dies_before_an_effect_leaves_the_message_with_the_broker(
    broker, topology: Topology, bench: Bench, effect: str, facts: int, waiting: int
) -> None:
    async with watched(broker.url, topology, Scripted(REFUSED)) as (stage, publisher):
        publisher.stop_at(effect)
        await one(bench, topology)
        await publisher.reached(effect)
        assert publisher.order == EFFECTS[: EFFECTS.index(effect) + 1]
        assert await stage.room.abandon() == 1
    assert await bench.left(topology.work_queue(AT_ONCE)) == 1
    assert await bench.ready(topology.ledger) == facts
    assert await bench.ready(topology.wait_queue(LATER)) == waiting
    (again,) = await bench.take_raw(topology.work_queue(AT_ONCE))
    assert again.redelivered


@pytest.mark.parametrize("effect", ["ledger", "poison", "ack"])
async def test_who_dies_while_it_poisons_leaves_the_message_with_the_broker(
    broker, topology: Topology, bench: Bench, effect: str
) -> None:
    async with watched(broker.url, topology, Scripted()) as (stage, publisher):
        publisher.stop_at(effect)
        await bench.publish(topology.work, "0s", b"{}", {"not": "readable"}, message_id="id-1")
        await publisher.reached(effect)
        assert await stage.room.abandon() == 1
    assert await bench.left(topology.work_queue(AT_ONCE)) == 1
    assert await bench.ready(topology.poison) == (1 if effect == "ack" else 0)


async def test_a_held_one_is_acknowledged_only_after_the_ledger_has_it(broker, topology, bench: Bench) -> None:
    async with watched(broker.url, topology, Scripted(needs_url=True)) as (stage, publisher):
        publisher.stop_at("ledger")
        await one(bench, topology)
        await publisher.reached("ledger")
        await stage.room.abandon()
    assert await bench.left(topology.work_queue(AT_ONCE)) == 1


async def test_an_unnamed_one_is_acknowledged_only_after_its_named_copy_is_confirmed(
    broker, topology: Topology, bench: Bench
) -> None:
    callback = Scripted()
    async with watched(broker.url, topology, callback) as (stage, publisher):
        publisher.stop_at("tier 0s")
        await bench.publish_bare(topology.work, "0s", b"{}", {"merchant": "m1"})
        await publisher.reached("tier 0s")
        await stage.room.abandon()
    assert callback.calls == []
    assert await bench.left(topology.work_queue(AT_ONCE)) == 1


async def test_while_the_broker_takes_no_publish_the_decision_waits_and_nobody_is_called_twice(
    broker, topology: Topology, bench: Bench
) -> None:
    """Publishing is cut off, consuming is not: the decision stays in memory, unacknowledged."""
    callback = Scripted(REFUSED)
    async with (
        Proxy(broker.url) as proxy,
        at_work(proxy.url, topology, callback, consumer_urls=broker.url) as stage,
    ):
        proxy.refusing = True
        proxy.cut()
        await one(bench, topology)
        await callback.called()
        await proxy.connected(3)
        assert len(stage.room) == 1
        proxy.refusing = False
        await stage.drained()
        await stage.consumer.close()
        assert await bench.left(stage.queue) == 0
        assert await bench.ready(topology.wait_queue(LATER)) == 1
    assert len(callback.calls) == 1


async def test_a_next_tier_whose_queue_was_deleted_is_declared_again(broker, topology, bench: Bench) -> None:
    callback = Scripted(REFUSED)
    callback.gate.clear()
    async with at_work(broker.url, topology, callback) as stage:
        await one(bench, topology)
        await callback.called()
        await bench.delete(topology.wait_queue(LATER))
        await bench.delete(topology.ledger)
        callback.gate.set()
        await stage.drained()
        await stage.consumer.close()
        assert await bench.left(stage.queue) == 0
        assert await bench.ready(topology.wait_queue(LATER)) == 1
        assert [fact["decision"] for fact in await bench.facts(topology.ledger, 1)] == ["next-tier"]


async def test_two_hundred_at_once_are_each_settled_once(broker, topology: Topology, bench: Bench) -> None:
    count = 200
    async with at_work(broker.url, topology, Scripted(REFUSED), prefetch=100) as stage:
        for number in range(count):
            await bench.publish(topology.work, "0s", b"%d" % number, {"merchant": "m1"}, message_id=f"n{number}")
        await stage.settled(count)
        await stage.consumer.close()
        assert await bench.left(stage.queue) == 0
        waits = await bench.take(topology.work_queue(LATER), count, timeout=30)  # nobody works there
    assert sorted(message.headers["notification"] for message in waits) == sorted(f"n{n}" for n in range(count))
