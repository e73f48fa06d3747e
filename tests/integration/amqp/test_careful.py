"""A careful start after an unclean death: who is worked, when, beside whom, and what the master knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from proxy import Proxy
from queues import Bench
from room import Scripted, Stage, at_work

from notifier.broker import poison
from notifier.broker.topology import Topology
from notifier.delivery import careful
from notifier.delivery.careful import DEATHS, CarefulStart
from notifier.delivery.delivery import DeliveryRoom
from notifier.delivery.inflight import key_of
from notifier.domain import wire
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

AT_ONCE = Tier(0)


@pytest.fixture(autouse=True)
def _soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody gets company because its settling takes long on a busy machine."""
    monkeypatch.setattr(careful, "_QUIET", 0.3)
    monkeypatch.setattr(careful, "PROBATION", 20.0)


@pytest.fixture
def short_probation(monkeypatch: pytest.MonkeyPatch, _soon_quiet: None) -> None:
    """As long as it is in earnest."""
    monkeypatch.setattr(careful, "PROBATION", 0.25)


@dataclass
class Master:
    """A witness that keeps what it is told, in order with the callbacks that began."""

    callback: Scripted
    claims: list[list[str]] = field(default_factory=list)
    before_answer: Callable[[], Awaitable[None]] | None = None
    calls_at_claim: list[int] = field(default_factory=list)
    calmed: bool = False
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def claim(self, keys: Sequence[str]) -> None:
        async with self._news:
            self.claims.append(list(keys))
            self.calls_at_claim.append(len(self.callback.calls))
            self._news.notify_all()
        if self.before_answer is not None:
            await self.before_answer()

    async def calm(self) -> None:
        self.calmed = True

    async def claimed(self, times: int) -> None:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.claims) >= times)


@dataclass
class Start:
    """A careful start at work."""

    stage: Stage
    master: Master
    running: asyncio.Task[None]

    async def over(self) -> None:
        """Wait until the careful time is over."""
        async with asyncio.timeout(10):
            await self.running


@asynccontextmanager
async def careful_start(
    url: str,
    topology: Topology,
    callback: Scripted,
    *,
    deaths: Mapping[str, int] | None = None,
    strict: bool = False,
    consumer_urls: str | None = None,
) -> AsyncIterator[Start]:
    master = Master(callback)
    starts: list[CarefulStart] = []

    def intake(room: DeliveryRoom) -> object:
        starts.append(CarefulStart(room, master, deaths or {}, strict=strict))
        return starts[0].take

    async with at_work(
        url, topology, callback, intake=intake, prefetch=careful.PREFETCH, consumer_urls=consumer_urls
    ) as stage:
        running = asyncio.create_task(starts[0].run(stage.consumer.consuming))
        try:
            yield Start(stage, master, running)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def after_a_death(bench: Bench, topology: Topology, redelivered: int, fresh: int = 0) -> list[str]:
    """Keys of messages that a process died with, in order; behind them others that nobody took yet."""
    messages = [Message(b"%d" % n, {"merchant": "m1"}, None, f"n{n}") for n in range(redelivered + fresh)]
    for message in messages[:redelivered]:
        await bench.publish(topology.work, "0s", message.body, dict(message.headers), message_id=message.message_id)
    await bench.die_with(topology.work_queue(AT_ONCE), redelivered)
    assert await bench.left(topology.work_queue(AT_ONCE)) == redelivered  # the broker has noticed
    for message in messages[redelivered:]:
        await bench.publish(topology.work, "0s", message.body, dict(message.headers), message_id=message.message_id)
    return [key_of(message) for message in messages[:redelivered]]


async def test_each_redelivered_one_is_claimed_before_it_is_worked(broker, topology, bench: Bench, declared) -> None:
    keys = await after_a_death(bench, topology, 5)
    callback = Scripted(Outcome.ok())
    async with careful_start(broker.url, topology, callback) as start:
        await start.over()
        await start.stage.settled(5)
    alone = [claim for claim in start.master.claims if claim]
    assert alone == [[key] for key in keys]
    assert [start.master.calls_at_claim[start.master.claims.index(claim)] for claim in alone] == [0, 1, 2, 3, 4]
    assert start.master.calmed
    assert [call.id for call in callback.calls] == ["n0", "n1", "n2", "n3", "n4"]


async def test_the_next_one_waits_until_the_one_before_is_settled(
    broker, topology, bench: Bench, declared, short_probation
) -> None:
    await after_a_death(bench, topology, 3)
    callback = Scripted(Outcome.ok())
    callback.gate.clear()
    async with careful_start(broker.url, topology, callback, strict=True) as start:
        await callback.called(1)
        await start.stage.delivered(3)
        done, _ = await asyncio.wait([start.running], timeout=careful.PROBATION * 2)
        assert not done
        assert len(callback.calls) == 1
        callback.gate.set()
        await start.over()
        assert len(callback.calls) == 3


async def test_one_that_waits_for_a_slow_merchant_gets_company_after_its_probation(
    broker, topology: Topology, bench: Bench, declared: None, short_probation: None
) -> None:
    first, second, third = await after_a_death(bench, topology, 3)
    callback = Scripted(Outcome.ok())
    callback.gate.clear()
    async with careful_start(broker.url, topology, callback) as start:
        await callback.called(3)
        assert start.master.claims[:3] == [[first], [first, second], [first, second, third]]
        callback.gate.set()
        await start.over()
        await start.stage.drained()


async def test_strictly_nothing_is_worked_while_another_one_is(broker, topology, bench: Bench, declared) -> None:
    keys = await after_a_death(bench, topology, 4)
    async with careful_start(broker.url, topology, Scripted(Outcome.ok()), strict=True) as start:
        await start.over()
    assert [claim for claim in start.master.claims if claim] == [[key] for key in keys]


async def test_one_that_was_alone_at_three_deaths_is_condemned_unworked(broker, topology, bench, declared) -> None:
    keys = await after_a_death(bench, topology, 3)
    callback = Scripted(Outcome.ok())
    async with careful_start(broker.url, topology, callback, deaths={keys[1]: DEATHS}) as start:
        await start.over()
        await start.stage.settled(2)
        (message,) = await bench.take(topology.poison)
    assert [call.id for call in callback.calls] == ["n0", "n2"]
    assert wire.identity(message) == "n1"
    assert message.headers[poison.REASON] == ("its process died 3 times while it was the only message being worked on")
    assert [keys[1]] not in start.master.claims
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


async def test_one_that_was_alone_at_fewer_deaths_is_worked(broker, topology, bench: Bench, declared) -> None:
    (key,) = await after_a_death(bench, topology, 1)
    callback = Scripted(Outcome.ok())
    async with careful_start(broker.url, topology, callback, deaths={key: DEATHS - 1}) as start:
        await start.over()
        await start.stage.settled(1)
    assert start.master.claims[0] == [key]


async def test_a_killer_without_a_message_id_is_recognised_as_well(broker, topology, bench: Bench, declared) -> None:
    """Its count of deliveries stands in its headers and differs at every death."""
    headers = {"merchant": "m1", "notification": "killer"}
    await bench.publish_bare(topology.work, "0s", b"{}", headers)
    seen: list[str] = []
    for _ in range(3):
        await bench.die_with(topology.work_queue(AT_ONCE), 1)
        callback = Scripted(Outcome.ok())
        callback.gate.clear()
        async with careful_start(broker.url, topology, callback) as start:
            await callback.called()
            seen += start.master.claims[0]
    assert len(set(seen)) == 1
    async with careful_start(broker.url, topology, Scripted(), deaths={seen[0]: DEATHS}) as start:
        (message,) = await bench.take(topology.poison)
    assert wire.identity(message) == "killer"


async def test_a_fresh_one_ends_the_careful_time_and_is_left_untouched(broker, topology, bench, declared) -> None:
    await after_a_death(bench, topology, 2, fresh=3)
    callback = Scripted(Outcome.ok())
    async with careful_start(broker.url, topology, callback) as start:
        await start.over()
        await start.stage.drained()
    assert [call.id for call in callback.calls] == ["n0", "n1"]
    assert await bench.left(topology.work_queue(AT_ONCE)) == 3


async def test_quiet_ends_the_careful_time(broker, topology: Topology, declared: None) -> None:
    async with careful_start(broker.url, topology, Scripted()) as start:
        await start.over()
    assert start.master.calmed
    assert start.master.claims == []


async def test_what_is_claimed_is_given_up_again_when_nothing_waits(broker, topology, bench: Bench, declared) -> None:
    (key,) = await after_a_death(bench, topology, 1)
    async with careful_start(broker.url, topology, Scripted(Outcome.ok())) as start:
        await start.over()
    assert start.master.claims == [[key], []]


async def test_quiet_for_want_of_a_connection_does_not_end_the_careful_time(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    """The broker may well be what died: the redelivered ones come when it is back, and are worked with care."""
    callback = Scripted(Outcome.ok())
    async with (
        Proxy(broker.url) as proxy,
        careful_start(broker.url, topology, callback, consumer_urls=proxy.url) as start,
    ):
        proxy.refusing = True
        proxy.cut()
        keys = await after_a_death(bench, topology, 2)
        done, _ = await asyncio.wait([start.running], timeout=careful._QUIET * 1.5)
        assert not done
        proxy.refusing = False
        await start.over()
        await start.stage.settled(2)
    assert [claim for claim in start.master.claims if claim] == [[key] for key in keys]


async def test_what_went_stale_while_the_master_stood_still_is_left_to_whoever_has_it_now(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    """Which may be another machine; here it comes again as soon as there is a connection."""
    (key,) = await after_a_death(bench, topology, 1)
    callback = Scripted(Outcome.ok())
    async with (
        Proxy(broker.url) as proxy,
        careful_start(broker.url, topology, callback, consumer_urls=proxy.url) as start,
    ):
        answered = asyncio.Event()

        async def cut() -> None:
            start.master.before_answer = None
            proxy.refusing = True
            proxy.cut()
            while start.stage.consumer.connected:  # noqa: ASYNC110  the end of a connection is nobody's event here
                await asyncio.sleep(0.01)
            answered.set()

        start.master.before_answer = cut
        async with asyncio.timeout(10):
            await answered.wait()
        done, _ = await asyncio.wait([start.running], timeout=0.3)
        assert not done
        assert callback.calls == []
        proxy.refusing = False
        await start.over()
        await start.stage.settled(1)
    assert start.master.claims == [[key], [key], []]
    assert len(callback.calls) == 1


async def test_a_cut_in_the_careful_time_ends_neither_it_nor_a_notification(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    keys = await after_a_death(bench, topology, 4)
    callback = Scripted(Outcome.ok())
    callback.gate.clear()
    async with (
        Proxy(broker.url) as proxy,
        careful_start(broker.url, topology, callback, strict=True, consumer_urls=proxy.url) as start,
    ):
        await callback.called(1)
        proxy.refusing = True
        proxy.cut()
        await proxy.connected(3)
        callback.gate.set()  # the first one is settled, and there is no connection for its ack
        await start.stage.drained()
        proxy.refusing = False
        await start.over()
        await start.stage.drained()
    claims = [claim for claim in start.master.claims if claim]
    assert claims == [[keys[0]], *([key] for key in keys)]  # the settled one came again, and was only acknowledged
    assert [call.id for call in callback.calls] == ["n0", "n1", "n2", "n3"]
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0
