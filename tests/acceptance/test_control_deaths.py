"""kill -9 of random children of a real service under load: nothing is lost, nobody innocent is poisoned."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from typing import Any

import pytest

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from notifier.supervision.operator import Operator
from tests.acceptance.control import Producer, operator_of, until_slot
from tests.acceptance.service import ROOMY, environment, notifier, running


async def killed_one(operator: Operator, draw: random.Random) -> bool:
    """Kill one of those that live; a slot whose process dies again and again is without one for a while."""
    slots = (await operator.ask("status"))["slots"]
    living = [slot["pid"] for slot in slots if slot["pid"] is not None]
    if not living:
        return False
    try:
        os.kill(draw.choice(living), signal.SIGKILL)
    except ProcessLookupError:  # the one before it, which the master has not missed yet
        return False
    return True


@pytest.mark.long  # rows of the fault suite kill a tier process at each point
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("deaths", "tiers"),
    [(20, 4), (200, 10)],
)
async def test_children_killed_at_random_under_load_lose_nothing_and_poison_nobody(
    broker: Any, namespace: str, deaths: int, tiers: int
) -> None:
    """Every tier has work from the start: who dies often waits longer and longer, and the others go on."""
    names = [f"{seconds}s" for seconds in range(1, tiers + 1)]
    ladders = [f"{name},{after}" for name, after in zip(names, [*names[1:], names[0]], strict=True)]
    variables = environment(
        broker.url,
        namespace,
        NOTIFIER_LADDER=",".join(names),
        NOTIFIER_LOG__LEVEL="warning",
        **ROOMY,
    )
    draw = random.Random(deaths)
    scripts = {"/fails-once": Script.parse("500,ok"), "/slow": Script.parse("slow:0.3")}
    async with (
        Simulator(scripts) as merchant,
        running(variables),
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        async with producer.load(["quick", "fails-once", "slow"], merchant.url, 100, ladders):
            await merchant.wait_for(50)
            for _ in range(deaths):
                while not await killed_one(operator, draw):
                    pass
                await merchant.wait_for(len(merchant.received) + draw.randrange(5, 60), timeout=60)
        accepted = set(producer.accepted)
        answered = {"ok", "slow:0.3"}

        def all_acknowledged(seen: Any) -> bool:
            return accepted <= {each.webhook_id for each in seen if each.answer in answered}

        await merchant.wait_for(all_acknowledged, timeout=120)
        for name in names:
            await until_slot(operator, f"tier:{name}", timeout=60, state="ready")
    code, out, _ = await notifier(variables, "poison", "list", "--json")
    assert code == 0
    assert json.loads(out) == []
    assert len(accepted) >= deaths


async def test_a_killed_tier_process_is_ready_again_in_its_slot_soon(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    async with running(variables) as service, operator_of(variables) as operator:
        before = await until_slot(operator, "tier:1s", state="ready")
        async with asyncio.timeout(60):  # under 1.5 s on an idle machine, as the benchmark shows
            os.kill(before["pid"], signal.SIGKILL)
            after = await until_slot(operator, "tier:1s", epoch=before["epoch"] + 1, state="ready")
        restarted = await service.event("child.restarted", slot="tier:1s")
        assert not [event for event in service.events if event["event"] == "child.backoff"], "at once"
    assert after["pid"] == restarted["pid"] != before["pid"]


@pytest.mark.long  # it stands still for longer than a claim waits
async def test_a_master_that_stands_still_while_a_tier_starts_carefully_leaves_no_tier_without_deliveries(
    broker: Any, namespace: str
) -> None:
    """What was in flight at the death is claimed one after the other, and one of the claims is not answered in time."""
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_EGRESS__TIMEOUT="4", **ROOMY)
    async with (
        Simulator({"/hangs": Script.parse("timeout")}) as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await producer.send(["hangs"], merchant.url, 60)
        await merchant.wait_for(40)
        os.kill(service.pid_of("tier:1s"), signal.SIGKILL)
        await service.event("careful")
        await merchant.wait_for(len(merchant.received) + 3)
        os.kill(service.process.pid, signal.SIGSTOP)
        try:
            await service.event("master.silent", asked="claim")
        finally:
            os.kill(service.process.pid, signal.SIGCONT)
        sent = await producer.send(["well"], merchant.url, 20)
        await service.event("careful.over", timeout=90)
        await merchant.wait_for(lambda seen: {each.webhook_id for each in seen} >= set(sent), timeout=60)
        assert (await until_slot(operator, "tier:1s", state="ready"))["epoch"] == 2
