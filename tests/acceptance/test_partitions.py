"""Partitions by merchant through the command line: the number changes while notifications wait, on all machines."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from notifier.broker.cleanup import delete_namespace
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.control import Producer, operator_of
from tests.acceptance.service import ROOMY, RunningService, environment, notifier, running, runtime_dir
from tests.conftest import TIERS
from tests.integration.amqp.queues import Bench

MERCHANTS = [f"shop-{number}" for number in range(24)]


@pytest.fixture
async def namespace(broker: Any, namespace: str) -> AsyncIterator[str]:
    """One that may have up to four partitions."""
    yield namespace
    await delete_namespace(broker.url, namespace, TIERS, partitions=4)


@pytest.fixture
async def bench(broker: Any) -> AsyncIterator[Bench]:
    async with Bench.at(broker.url) as bench:
        yield bench


def machine(variables: Mapping[str, str], name: str, **more: str) -> dict[str, str]:
    """The environment of another machine of the same namespace."""
    directory = runtime_dir()
    return {
        **variables,
        "NOTIFIER_MACHINE": name,
        "NOTIFIER_RUNTIME_DIR": directory,
        "NOTIFIER_STATE_DIR": directory,
        **more,
    }


async def changed_to(variables: Mapping[str, str], number: int) -> None:
    code, out, err = await notifier(variables, "topology", "partitions", str(number))
    assert code == 0, err
    assert f"has {number} partition" in out


async def slots_of(variables: Mapping[str, str]) -> set[str]:
    async with operator_of(variables) as operator:
        return {slot["slot"] for slot in (await operator.ask("status"))["slots"]}


async def until_slots(variables: Mapping[str, str], wanted: set[str], timeout: float = 30) -> None:
    """Wait until a service consists of these: what it finds in the record is no event of ours."""
    async with asyncio.timeout(timeout):
        while True:
            if await slots_of(variables) == wanted:
                return
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def flowing(producer: Producer, url: str) -> AsyncIterator[None]:
    """200 a second for the length of the block; at its end all that were handed in are accepted."""
    over = asyncio.Event()

    async def flow() -> None:
        while not over.is_set():
            await asyncio.gather(asyncio.sleep(0.1), producer.send(MERCHANTS, url, 20))

    flowing = asyncio.create_task(flow())
    try:
        yield
    finally:
        over.set()
        await flowing


async def serving(services: Sequence[RunningService], process: str, attempts: int) -> RunningService:
    """Which of them serves a partition, once one of them tells of so many more attempts there."""

    def told(service: RunningService) -> int:
        return sum(event["event"] == "attempt" and event["process"] == process for event in service.events)

    waiting = {
        asyncio.create_task(service.several(told(service) + attempts, "attempt", process=process)): service
        for service in services
    }
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    found = done.pop()
    await found
    return waiting[found]


async def received_once(merchant: Simulator, accepted: list[str], attempts: int = 1) -> None:
    """Every notification arrived, each attempt of it once."""
    await merchant.wait_for(len(accepted) * attempts, timeout=60)
    seen = Counter((each.webhook_id, each.attempt) for each in merchant.received)
    assert {key: count for key, count in seen.items() if count > 1} == {}
    assert set(seen) == {(each, attempt) for each in accepted for attempt in range(1, attempts + 1)}


async def all_empty(bench: Bench, topology: Topology) -> None:
    for tier in topology.tiers:
        for partition in (None, 0, 1, 2, 3):
            assert await bench.ready(topology.work_queue(tier, partition)) == 0
        assert await bench.ready(topology.wait_queue(tier)) == 0


@pytest.mark.long  # integration/amqp/test_reshaping shows it without a service
@pytest.mark.parametrize("delay", ["native", pytest.param("plugin", marks=pytest.mark.plugin)])
async def test_one_to_four_to_two_while_notifications_flow_strands_loses_and_doubles_none(
    broker: Any, bench: Bench, namespace: str, delay: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_DELAY=delay, **ROOMY)
    async with Simulator() as merchant, running(variables) as service, Producer(variables) as producer:
        async with flowing(producer, merchant.url):
            await changed_to(variables, 4)
            await until_slots(variables, {"tier:1s", *(f"tier:1s.{number}" for number in range(4))})
            await changed_to(variables, 2)  # while the processes of four may still be starting
        await received_once(merchant, producer.accepted)
        assert [event for event in service.events if event["event"] == "held"] == []
        assert len(producer.accepted) > 500
        await all_empty(bench, Topology(namespace, (Tier(1),)))
        served = {event["process"] for event in service.events if event["event"] == "attempt"}
        assert {"tier 1s", "tier 1s.0", "tier 1s.1"} <= served


async def test_a_merchant_s_notifications_come_into_one_partition(broker: Any, bench: Bench, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_PARTITIONS="2", **ROOMY)
    async with Simulator() as merchant, running(variables) as service, Producer(variables) as producer:
        await producer.send(MERCHANTS, merchant.url, 96)
        await received_once(merchant, producer.accepted)
        by_merchant: dict[str, set[str]] = {}
        for event in await service.several(96, "attempt"):
            by_merchant.setdefault(event["merchant"], set()).add(event["process"])
    assert set(map(len, by_merchant.values())) == {1}
    assert {process for served in by_merchant.values() for process in served} == {"tier 1s.0", "tier 1s.1"}


async def test_strict_order_holds_while_a_partition_goes_from_one_machine_to_the_other(
    broker: Any, namespace: str
) -> None:
    """One call at a time, in the order in which they were handed in, none twice: whoever takes over has to wait."""
    first = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_PARTITIONS="2", NOTIFIER_STRICT_ORDER="true"
    )
    second = machine(first, "second")
    async with (
        Simulator({"/shop": Script.parse("slow:0.4")}) as merchant,
        running(first) as one,
        running(second) as two,
        Producer(first) as producer,
    ):
        for _ in range(16):
            await producer.send(["shop"], merchant.url, 1)
        await merchant.wait_for(4, timeout=20)
        async with operator_of(first) as operator:
            await operator.ask("push", {"key": "pause/all", "value": True, "critical": True})
        await merchant.wait_for(10, timeout=30)
        async with operator_of(first) as operator:
            await operator.ask("clear", {"key": "pause/all"})
        await two.stop()
        await merchant.wait_for(16, timeout=30)
        await one.several(1, "attempt", notification=producer.accepted[-1])
        by = [{event["process"] for event in service.events if event["event"] == "attempt"} for service in (one, two)]
    assert [each.webhook_id for each in merchant.received] == producer.accepted
    apart = [later.ts - earlier.ts for earlier, later in itertools.pairwise(merchant.received)]
    assert min(apart) >= 400
    assert all(by), "both had a part in it"


@pytest.mark.long
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
async def test_two_machines_and_the_death_of_a_process_while_the_number_changes(
    broker: Any, bench: Bench, namespace: str, death: signal.Signals
) -> None:
    """What was in flight at a death may come twice; nothing else may, and nothing is lost or stranded.

    In flight is what came first within the second before the death, since it is settled in less, or half a second after
    it, since the merchant may be slow to read what the dead process had sent.
    """
    first = environment(broker.url, namespace, NOTIFIER_LADDER="1s", **ROOMY)
    second = machine(first, "second")
    deaths: list[float] = []
    async with (
        Simulator() as merchant,
        running(first) as one,
        running(second) as two,
        Producer(first) as producer,
    ):
        async with flowing(producer, merchant.url):
            for number, attempts in ((4, 1), (2, 100)):  # as soon as it serves at all, and after a second or two
                await changed_to(first, number)
                fed = {f"tier:1s.{partition}" for partition in range(4)}
                for variables in (first, second):
                    await until_slots(variables, {"tier:1s", *fed})
                served = await serving((one, two), "tier 1s.0", attempts)
                os.kill(pid := served.pid_of("tier:1s.0"), death)
                deaths.append(time.time() * 1000)
                await served.event("child.ended", pid=pid)
        await merchant.wait_for(lambda all_: set(producer.accepted) <= {each.webhook_id for each in all_}, timeout=60)
        await all_empty(bench, Topology(namespace, (Tier(1),)))
    seen = Counter(each.webhook_id for each in merchant.received)
    doubled = {name for name, count in seen.items() if count > 1}
    assert set(seen) == set(producer.accepted)
    first_came = {each.webhook_id: each.ts for each in reversed(merchant.received)}
    in_flight = {name for name, came in first_came.items() if any(-1000 <= came - moment <= 500 for moment in deaths)}
    assert doubled - (in_flight if death is signal.SIGKILL else set()) == set()


async def test_run_with_another_number_than_recorded_names_the_command(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_PARTITIONS="3")
    await notifier(variables, "enqueue", "--merchant", "m", "--url", "http://127.0.0.1:9/", "--payload", "1")
    code, _, err = await notifier({**variables, "NOTIFIER_PARTITIONS": "2"}, "run", "--no-api", "--no-agent")
    assert code == 78
    assert "has 3 partitions, and the settings say 2" in err
    assert "NOTIFIER_PARTITIONS=3" in err
    assert "notifier topology partitions 2" in err
