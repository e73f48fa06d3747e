"""What a namespace ever had, as whoever connects finds and leaves it on the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from publishing import publishing
from queues import Bench

from notifier.broker import record
from notifier.broker.declare import declare
from notifier.broker.inspect import looking
from notifier.broker.kept_record import KeptRecord, looked_at
from notifier.broker.record import Record, Recorded
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.errors import BrokerError

ODD = (Tier(1), Tier(60), Tier(90), Tier(15), Tier(49 * 86_400))


@asynccontextmanager
async def asking(url: str, topology: Topology) -> AsyncIterator[Record]:
    async with record.reading([url], topology, "test", 10) as reading:
        yield reading


async def connect(url: str, topology: Topology) -> None:
    """As every process and every command does."""
    async with publishing(url, topology):
        pass


async def test_whoever_connects_records_its_tiers_and_the_first_one_the_number(broker, topology: Topology) -> None:
    first = replace(topology, tiers=ODD, partitions=2)
    await connect(broker.url, first)
    await connect(broker.url, replace(topology, tiers=(Tier(5),), partitions=2))
    async with asking(broker.url, topology) as reading:
        assert await reading.read() == Recorded(tuple(sorted((*ODD, Tier(5)))), had=(2,), numbers=(2,))


@pytest.mark.parametrize(("recorded", "stated"), [(2, 1), (1, 2), (2, 3)])
async def test_the_recorded_number_counts_whatever_a_machine_s_settings_say(
    broker, topology: Topology, bench: Bench, recorded: int, stated: int
) -> None:
    there, other = replace(topology, partitions=recorded), replace(topology, partitions=stated)
    await connect(broker.url, there)
    await connect(broker.url, other)
    for number in range(6):
        await bench.publish(topology.work, "0s", headers={"merchant": f"m{number}"})
    ours = sum([await bench.ready(queue) for queue in there.work_queues(Tier(0))])
    others = set(other.work_queues(Tier(0))) - set(there.work_queues(Tier(0)))
    assert ours == 6
    assert [queue for queue in others if await bench.stands(queue)] == []


async def test_a_namespace_that_is_older_than_records_has_no_partitions(
    broker, topology: Topology, bench: Bench
) -> None:
    await bench.exchange(topology.work, "direct")
    await connect(broker.url, replace(topology, partitions=4))
    async with asking(broker.url, topology) as reading:
        assert (await reading.read()).numbers == (1,)


async def test_two_that_come_first_at_the_same_time_agree(broker, topology: Topology) -> None:
    await asyncio.gather(*(connect(broker.url, replace(topology, partitions=number)) for number in (1, 2, 3, 4)))
    async with asking(broker.url, topology) as reading:
        recorded = await reading.read()
        marked = [number for number in (1, 2, 3, 4) if await reading.is_marked(number)]
    assert recorded.partitions is not None
    assert list(recorded.numbers) == list(recorded.had) == marked


async def test_only_one_holds_the_lock_and_what_leaves_stays_when_its_connection_ends(
    broker, topology: Topology
) -> None:
    async with asking(broker.url, topology) as watching:
        async with asking(broker.url, topology) as pruning, asking(broker.url, topology) as other:
            assert await pruning.lock()
            assert not await other.lock()
            await pruning.note_leaving("tier:5s")
            assert await watching.leaving(["tier:1s", "tier:5s"]) == ["tier:5s"]
        assert await watching.leaving(["tier:5s"]) == []
        assert await watching.lock()


async def test_who_connects_while_the_number_is_changed_waits_for_it(broker, topology: Topology) -> None:
    await connect(broker.url, topology)
    async with asking(broker.url, topology) as changing:
        assert await changing.lock()
        await changing.remove_mark(1)
        connecting = asyncio.create_task(connect(broker.url, topology))
        done, _ = await asyncio.wait([connecting], timeout=0.5)
        assert not done
        await changing.strike_number(1)
        await changing.note_number(2)
        await changing.set_mark(2)
        await asyncio.wait_for(connecting, 10)
    async with asking(broker.url, topology) as reading:
        assert (await reading.read()).partitions == 2


async def test_after_a_change_that_died_nothing_is_bound_and_the_log_names_the_command(
    broker, topology: Topology, bench: Bench, caplog
) -> None:
    await connect(broker.url, topology)
    async with asking(broker.url, topology) as changing:
        await changing.lock()
        await changing.remove_mark(1)
        await changing.note_number(2)
    await bench.unbind(topology.work_queue(Tier(0)), topology.work, "0s")
    await connect(broker.url, topology)
    assert "topology.unfinished" in {line.getMessage() for line in caplog.records}
    with pytest.raises(Exception, match="NO_ROUTE"):
        await bench.publish(topology.work, "0s")


async def test_looking_makes_nothing(broker, topology: Topology) -> None:
    async with looking([broker.url], "test", 10) as look:
        assert await looked_at(look, [broker.url], topology, "test", 10) == Recorded((), (), ())
        assert not await look.exchange(topology.record)


async def test_a_kept_record_is_read_again_after_its_connection_was_lost(own_node, topology: Topology) -> None:
    kept = KeptRecord([own_node.url], topology)
    await kept.start(10)
    try:
        await connect(own_node.url, topology)
        before = await kept.read()
        await own_node.ctl("close_all_connections", "test")
        async with asyncio.timeout(20):
            while (after := await kept.read()) is None:
                pass
    finally:
        await kept.close()
    assert before == after
    assert before is not None
    assert before.tiers == topology.tiers


async def test_a_lock_that_is_held_on_and_on_is_told(broker, topology: Topology, monkeypatch) -> None:
    monkeypatch.setattr(record, "_PATIENCE", 3.0)
    async with asking(broker.url, topology) as changing:
        await changing.lock()
        async with looking([broker.url], "test", 10) as look, look.channel() as channel:
            with pytest.raises(BrokerError, match="`notifier topology` is changing it"):
                await declare(channel, topology)
