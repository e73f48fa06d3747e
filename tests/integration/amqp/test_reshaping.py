"""The number of partitions changes while messages flow: each comes into exactly one queue, exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from publishing import message, publishing
from queues import Bench

from notifier.broker import declare, record, reshaping
from notifier.broker.publisher import Publisher
from notifier.broker.record import Recorded
from notifier.broker.reshaping import change_partitions, changing
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.errors import Conflict

AT_ONCE, SECOND = Tier(0), Tier(1)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else connects here."""
    monkeypatch.setattr(reshaping, "GRACE", 0.05)


async def change(url: str, topology: Topology, number: int) -> None:
    await change_partitions([url], replace(topology, partitions=number), 10, lambda _: None)


async def recorded(url: str, topology: Topology) -> Recorded:
    async with record.reading([url], topology, "test", 10) as reading:
        return await reading.read()


async def flow(publisher: Publisher, topology: Topology, over: asyncio.Event) -> list[bytes]:
    """Publish into both kinds of tiers as fast as it goes, until it is over; what was confirmed."""
    sent: list[bytes] = []
    while not over.is_set():
        batch = [b"%d" % number for number in range(len(sent), len(sent) + 30)]
        tiers = [(AT_ONCE, SECOND)[number % 2] for number in range(30)]
        await asyncio.gather(
            *(
                publisher.publish_by(topology.way(tier), message(body, merchant=f"m{int(body) % 17}"))
                for tier, body in zip(tiers, batch, strict=True)
            )
        )
        sent += batch
    return sent


async def lying(bench: Bench, topology: Topology) -> Counter[bytes]:
    """What lies in all work queues that there ever were."""
    found: Counter[bytes] = Counter()
    for tier in (AT_ONCE, SECOND):
        for partition in (None, 0, 1, 2, 3):
            queue = topology.work_queue(tier, partition)
            if await bench.stands(queue):
                found.update(each.body for each in await bench.take(queue, await bench.ready(queue), 60))
    return found


@pytest.mark.parametrize("numbers", [(2, 1), pytest.param((4, 2, 3, 1, 4, 1), marks=pytest.mark.long)], ids=str)
async def test_each_message_has_exactly_one_way_while_the_number_changes(
    broker, topology: Topology, bench: Bench, numbers: Sequence[int]
) -> None:
    over = asyncio.Event()
    async with publishing(broker.url, topology) as publisher:
        flowing = asyncio.create_task(flow(publisher, topology, over))
        for number in numbers:
            await change(broker.url, topology, number)
        over.set()
        sent = await flowing
    found = Counter[bytes]()
    async with asyncio.timeout(60):
        while sum(found.values()) < len(sent):  # what waits still is on its way
            found += await lying(bench, topology)
    found += await lying(bench, topology)
    assert await bench.ready(topology.wait_queue(SECOND)) == 0
    assert {body: count for body, count in found.items() if count > 1} == {}
    assert set(found) == set(sent)
    assert len(sent) > 100
    assert (await recorded(broker.url, topology)).had == tuple(sorted({1, *numbers}))


@pytest.mark.parametrize(
    "steps", [3, 7, *(pytest.param(steps, marks=pytest.mark.long) for steps in (1, 2, 4, 5, 6, 8, 9, 10, 11))]
)
async def test_a_change_that_dies_at_any_step_leaves_one_way_and_is_finished_by_another(
    broker, topology: Topology, bench: Bench, monkeypatch, steps: int
) -> None:
    async with publishing(broker.url, topology):
        pass
    left = steps

    def dying(step):
        async def after(*arguments):
            nonlocal left
            if not left:
                raise Conflict("it died")
            left -= 1
            await step(*arguments)

        return after

    for name in ("bind_one", "unbind_one"):
        monkeypatch.setattr(declare, name, dying(getattr(declare, name)))
    with pytest.raises(Conflict, match="it died"):
        await change(broker.url, topology, 2)
    monkeypatch.undo()
    monkeypatch.setattr(reshaping, "GRACE", 0.05)
    for tier in ("0s", "1s", "5s"):
        await bench.publish(topology.work, tier, tier.encode(), {"merchant": "m"})
    assert set((await lying(bench, topology)).values()) == {1}
    for number in (1, 2):
        await change(broker.url, topology, number)
        await bench.publish(topology.work, "1s", b"after", {"merchant": "m"})
        assert await lying(bench, topology) == {b"after": 1}
        assert (await recorded(broker.url, topology)).partitions == number


async def test_the_first_one_to_say_a_number_says_what_it_shall_be(broker, topology: Topology) -> None:
    await change(broker.url, topology, 4)
    assert await recorded(broker.url, topology) == Recorded((), had=(4,), numbers=(4,))


async def test_only_one_command_at_a_time(broker, topology: Topology) -> None:
    async with changing([broker.url], topology, 10):
        with pytest.raises(Conflict, match="another `notifier topology` command"):
            await change(broker.url, topology, 2)


async def test_a_message_without_a_merchant_finds_a_way_too(broker, topology: Topology, bench: Bench) -> None:
    """To be read, found wanting and put to poison, as without partitions."""
    async with publishing(broker.url, replace(topology, partitions=2)):
        pass
    await bench.publish(topology.work, "0s", b"nameless")
    assert await lying(bench, topology) == {b"nameless": 1}


async def test_who_declares_so_slowly_that_the_number_changes_meanwhile_takes_back_what_is_stale(
    broker, topology: Topology, bench: Bench, monkeypatch
) -> None:
    """It had seen the mark, and binds long after the grace of the change."""
    async with publishing(broker.url, topology):
        pass
    bind, changed = declare.bind_one, False

    async def slow(channel, binding) -> None:
        nonlocal changed
        if not changed:
            changed = True
            await change(broker.url, topology, 2)
        await bind(channel, binding)

    async with publishing(broker.url, replace(topology, partitions=2)):
        monkeypatch.setattr(declare, "bind_one", slow)
        async with publishing(broker.url, topology):
            pass
    await bench.publish(topology.work, "1s", b"once", {"merchant": "m"})
    assert await lying(bench, topology) == {b"once": 1}
