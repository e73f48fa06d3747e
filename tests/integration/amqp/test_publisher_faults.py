"""Publishing over a line that breaks: nothing confirmed is repeated, nothing unconfirmed is given up, nothing hangs."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from proxy import Proxy
from publishing import message, publishing
from queues import Bench

from notifier.broker import publisher as module
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.errors import Unroutable

WORK = Tier(0)


def publishes(publisher: Publisher, topology: Topology, count: int, size: int = 10) -> list[asyncio.Task[None]]:
    return [
        asyncio.create_task(publisher.publish(message(f"{number:0{size}}"), topology.work, "0s"))
        for number in range(count)
    ]


async def test_a_cut_between_publish_and_confirm_repeats_what_was_not_confirmed(
    broker, topology: Topology, bench: Bench
) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        await publisher.publish(message(b"before"), topology.work, "0s")
        proxy.downward.clear()  # the broker gets everything, and its confirms do not come through
        waiting = publishes(publisher, topology, 50)
        while await bench.ready(topology.work_queue(WORK)) < 51:
            pass
        assert not any(each.done() for each in waiting)
        proxy.cut()
        proxy.downward.set()
        await asyncio.gather(*waiting)
    arrived = await bench.take(topology.work_queue(WORK), 101)
    bodies, ids = Counter(each.body for each in arrived), Counter(each.message_id for each in arrived)
    assert bodies == {b"before": 1, **{f"{number:010}".encode(): 2 for number in range(50)}}
    assert sorted(ids.values()) == [1] + [2] * 50  # a repetition keeps its message_id


async def test_a_cut_before_the_broker_has_it_loses_nothing(broker, topology: Topology, bench: Bench) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        proxy.upward.clear()
        waiting = publishes(publisher, topology, 50)
        await proxy.asked(1)
        proxy.cut()
        proxy.upward.set()
        await asyncio.gather(*waiting)
    arrived = await bench.take(topology.work_queue(WORK), 50)
    assert Counter(each.body for each in arrived) == {f"{number:010}".encode(): 1 for number in range(50)}


async def test_a_connection_that_ends_between_two_frames_is_only_lost(broker, topology: Topology, bench: Bench) -> None:
    """The end arrives while the client still reads answers: aiormq tells those who wait a bare Exception."""
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        proxy.downward.clear()
        returned = [asyncio.create_task(publisher.publish(message(), topology.work, "9s")) for _ in range(60)]
        await proxy.answered(60 * 60)
        proxy.upward.clear()
        waiting = publishes(publisher, topology, 20)
        await proxy.asked(1)
        proxy.end_after_answers()
        proxy.upward.set()
        done = await asyncio.gather(*returned, *waiting, return_exceptions=True)
    assert [type(each) for each in done] == [Unroutable] * 60 + [type(None)] * 20
    assert await bench.ready(topology.work_queue(WORK)) == 20


async def test_a_half_open_line_is_noticed_by_the_heartbeat(
    broker, topology: Topology, bench: Bench, impatient: None
) -> None:
    async with Proxy(broker.url) as proxy, publishing(f"{proxy.url}?heartbeat=1", topology) as publisher:
        proxy.upward.clear()
        proxy.downward.clear()
        waiting = publishes(publisher, topology, 20)
        proxy.thaw_for_new_connections()
        async with asyncio.timeout(15):
            await asyncio.gather(*waiting)
    assert await bench.ready(topology.work_queue(WORK)) == 20


async def test_a_half_open_line_full_of_unsent_bytes_can_be_given_up(broker, topology: Topology, bench: Bench) -> None:
    """Nothing of it ever drains, so a polite goodbye would wait for the kernel, and the publishes with it."""
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        proxy.upward.clear()
        proxy.downward.clear()
        waiting = [
            *publishes(publisher, topology, 1, size=20_000_000),  # more than the sockets' buffers hold
            *publishes(publisher, topology, 20),
        ]
        await proxy.asked(65_536)
        proxy.thaw_for_new_connections()
        publisher._link.reopen()
        await asyncio.gather(*waiting)
        assert await bench.ready(topology.work_queue(WORK)) == 21


async def test_a_slow_line_repeats_nothing(broker, topology: Topology, bench: Bench) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        before = proxy.connections
        proxy.slice, proxy.pause = 2_000, 0.005
        await asyncio.gather(*publishes(publisher, topology, 30, size=5_000))
        assert proxy.connections == before
    assert await bench.ready(topology.work_queue(WORK)) == 30


async def test_a_line_cut_again_and_again_loses_nothing(broker, topology: Topology, bench: Bench) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(30):
        waiting: list[asyncio.Task[None]] = []
        for _ in range(4):
            waiting += publishes(publisher, topology, 50, size=2_000)
            await proxy.asked(20_000)
            proxy.cut()
        await asyncio.gather(*waiting)
        arrived = await bench.take(topology.work_queue(WORK), await bench.ready(topology.work_queue(WORK)))
    assert {each.body for each in arrived} == {f"{number:02000}".encode() for number in range(50)}
    assert len({each.message_id for each in arrived}) == 200


async def test_publishes_wait_while_there_is_no_broker_and_go_on_when_it_is_back(
    broker, topology: Topology, bench: Bench
) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        proxy.refusing = True
        proxy.cut()
        waiting = publishes(publisher, topology, 10)
        await proxy.connected(3)
        assert not any(each.done() for each in waiting)
        proxy.refusing = False
        await asyncio.gather(*waiting)
    assert await bench.ready(topology.work_queue(WORK)) == 10


async def test_closing_leaves_no_task_behind(broker, topology: Topology) -> None:
    before = asyncio.all_tasks()
    async with Proxy(broker.url) as proxy:
        publisher = Publisher([proxy.url], topology)
        await publisher.start(10)
        proxy.downward.clear()
        waiting = publishes(publisher, topology, 5)
        await proxy.asked(1)
        for each in waiting:
            each.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait(waiting)
            await publisher.close()
            await publisher.close()
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


@pytest.mark.parametrize("sent", range(1, 2400, 370))
async def test_a_cut_while_the_connection_is_being_made_is_only_another_attempt(
    broker, topology: Topology, bench: Bench, sent: int
) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        proxy.cut()
        await proxy.connected(1)
        await proxy.asked(sent)  # from the greeting to the last of the declarations
        proxy.cut()
        await publisher.publish(message(), topology.work, "0s")
    assert await bench.ready(topology.work_queue(WORK)) == 1


@pytest.mark.parametrize(("moments", "doubted"), [((0, 3600), 0), ((0, 4, 8, 12), 1)])
async def test_refusals_are_doubted_when_they_last_and_not_when_there_was_one_long_ago(
    topology: Topology, monkeypatch: pytest.MonkeyPatch, moments: tuple[float, ...], doubted: int
) -> None:
    """A new connection repeats whatever is unconfirmed on the old one."""
    publisher = Publisher(["amqp://127.0.0.1:1/"], topology, "test")
    began, reopened = 1e6, []
    monkeypatch.setattr(publisher._link, "reopen", lambda: reopened.append(1))
    for moment in moments:
        monkeypatch.setattr(module.time, "monotonic", lambda moment=moment: began + moment)
        publisher._doubt(topology.work, "0s")
    assert len(reopened) == doubted
