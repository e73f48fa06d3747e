"""Tiers that are added and retired while notifications wait in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, notifier, running, runtime_dir
from tests.acceptance.test_partitions import until_slots
from tests.integration.amqp.queues import Bench


@pytest.fixture
async def bench(broker: Any) -> AsyncIterator[Bench]:
    async with Bench.at(broker.url) as bench:
        yield bench


async def enqueued(variables: Mapping[str, str], url: str, ladder: str) -> str:
    arguments = ("--merchant", "shop", "--url", url, "--payload", "{}", "--ladder", ladder)
    code, out, err = await notifier(variables, "enqueue", *arguments)
    assert code == 0, err
    return out.strip()


async def test_a_retired_tier_is_served_on_a_machine_that_never_had_it_until_it_is_pruned(
    broker: Any, bench: Bench, namespace: str
) -> None:
    before = environment(broker.url, namespace, NOTIFIER_LADDER="3s,5s")
    directory = runtime_dir()  # an empty disk
    after = {
        **before,
        "NOTIFIER_LADDER": "1s,2s",
        "NOTIFIER_RUNTIME_DIR": directory,
        "NOTIFIER_STATE_DIR": directory,
    }
    topology = Topology(namespace, (Tier(3), Tier(5)))
    async with Simulator({"/hook": Script.parse("500,ok")}) as merchant:
        waiting = await enqueued(before, f"{merchant.url}/hook", "3s,5s")
        async with running(after) as service:
            await until_slots(after, {"tier:1s", "tier:2s", "tier:3s", "tier:5s"})
            first = await service.event("attempt", 60, notification=waiting, attempt=1)
            second = await service.event("attempt", notification=waiting, attempt=2)
            assert (first["tier"], first["next_tier"]) == ("3s", "2s")  # none is as long as 5s: the longest there is
            assert (second["tier"], second["decision"]) == ("2s", "complete")

            _, status, _ = await notifier(after, "ctl", "status")
            assert [line.split()[0] for line in status.splitlines() if "retired" in line] == ["tier:3s", "tier:5s"]
            code, shown, _ = await notifier(after, "topology", "show", "--json")
            assert code == 0
            assert [each["name"] for each in json.loads(shown)["unused"]] == ["tier 3s", "tier 5s"]

            code, out, _ = await notifier(after, "topology", "prune", "--settle", "0")
            assert (code, out.splitlines()) == (0, ["tier 3s: deleted", "tier 5s: deleted"])
            await until_slots(after, {"tier:1s", "tier:2s"})
    for name in (topology.wait_queue(Tier(3)), topology.work_queue(Tier(3)), topology.work_queue(Tier(5))):
        assert not await bench.stands(name)
    _, shown, _ = await notifier(after, "topology", "show", "--json")
    assert json.loads(shown)["recorded"]["tiers"] == ["1s", "2s"]
    assert json.loads(shown)["unused"] == []


async def test_a_tier_that_a_producer_brings_gets_a_process_while_the_service_runs(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    newer = {**variables, "NOTIFIER_LADDER": "1s,2s"}
    async with Simulator() as merchant, running(variables) as service:
        early = await enqueued(newer, f"{merchant.url}/hook", "2s")
        event = await service.event("attempt", 60, notification=early)
        assert (event["tier"], event["decision"]) == ("2s", "complete")


async def test_what_still_holds_something_is_not_pruned(broker: Any, bench: Bench, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,30s")
    await enqueued(variables, "http://127.0.0.1:9/", "30s")
    code, out, _ = await notifier({**variables, "NOTIFIER_LADDER": "1s"}, "topology", "prune", "--settle", "0")
    assert code == 1
    assert out.splitlines() == [f"tier 30s: stays, 1 in {namespace}.wait.30s"]
    assert await bench.ready(f"{namespace}.wait.30s") == 1


async def test_there_may_be_nothing_to_prune(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    code, out, err = await notifier(variables, "topology", "prune")
    assert (code, out, err) == (0, "nothing to prune: everything there is is in use\n", "")
