"""The control line in the tier processes of a real service: pause, block, settings that change live."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import pytest

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from notifier.supervision.operator import Operator
from tests.acceptance.control import Producer, handled, operator_of, slot_of, until_restarting, until_slot
from tests.acceptance.service import ROOMY, environment, notifier, running

SLOTS = ("tier:1s", "tier:2s")


def results(answer: dict[str, Any]) -> dict[str, str]:
    return {slot["slot"]: slot["result"] for slot in answer["slots"]}


async def in_hand(operator: Operator) -> list[dict[str, Any]]:
    """What the first tier is at work on."""
    (reply,) = (await operator.ask("send", {"to": "tier:1s", "action": "inflight"}))["replies"]
    works: list[dict[str, Any]] = reply["data"]["works"]
    assert reply["data"]["total"] == len(works)
    return works


async def in_queue(variables: dict[str, str], queue: str) -> int:
    code, out, _ = await notifier(variables, "topology", "show", "--json")
    assert code == 0
    found = {each["name"]: each for each in json.loads(out)["queues"]}
    return int(found[f"{variables['NOTIFIER_NAMESPACE']}.{queue}"]["ready"])


async def test_a_paused_tier_loses_nothing_and_delivers_late(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", **ROOMY)
    async with (
        Simulator() as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        answer = await operator.ask("push", {"key": "pause/tier:1s", "value": {"paused": True}, "why": "test"})
        assert results(answer) == {"tier:1s": "applied", "tier:2s": "applied"}
        assert (await slot_of(operator, "tier:1s"))["state"] == "paused"
        assert (await slot_of(operator, "tier:2s"))["state"] == "ready"
        sent = await producer.send(["m1", "m2"], merchant.url, 200, "1s,2s")
        other = await producer.send(["m3"], merchant.url, 20, "2s")
        await merchant.wait_for(20)
        async with asyncio.timeout(20):
            while await in_queue(variables, "work.1s") < 200:
                pass
        assert {each.webhook_id for each in merchant.received} == set(other)
        await operator.ask("clear", {"key": "pause/tier:1s"})
        received = await merchant.wait_for(220, timeout=20)
        assert sorted(str(each.webhook_id) for each in received) == sorted(sent + other)
        assert (await slot_of(operator, "tier:1s"))["state"] == "ready"
        late = await service.event("attempt", notification=sent[0])
        assert late["late_ms"] > 0
        assert await in_queue(variables, "poison") == 0


async def test_a_pause_lets_what_runs_finish_and_gives_the_rest_back(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", **ROOMY)
    async with (
        Simulator({"/slow": Script.parse("slow:6")}) as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await operator.ask("push", {"key": "set/tier:1s/concurrency", "value": 3})
        sent = await producer.send(["slow"], merchant.url, 10)
        await merchant.wait_for(3)
        async with asyncio.timeout(20):
            while len(works := await in_hand(operator)) < 10:
                pass
        assert [work["state"] for work in works].count("calling") == 3
        assert {work["url"] for work in works} == {f"{merchant.url}/slow"}
        await operator.ask("push", {"key": "pause/all", "value": {"paused": True}})
        async with asyncio.timeout(20):
            while await in_queue(variables, "work.1s") < 7:
                pass
        finished = {str(each.webhook_id) for each in merchant.received}
        await service.settled(finished)
        assert len(merchant.received) == 3
        await operator.ask("clear", {"key": "pause/all"})
        await operator.ask("clear", {"key": "set/tier:1s/concurrency"})
        received = await merchant.wait_for(10, timeout=40)
        await service.settled(set(sent))
        assert sorted(str(each.webhook_id) for each in received) == sorted(sent), "each once: none lost, none doubled"


async def test_a_drain_starts_nothing_that_still_waited_for_its_turn(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", **ROOMY)
    async with (
        Simulator({"/slow": Script.parse("slow:5")}) as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await operator.ask("push", {"key": "set/tier:1s/concurrency", "value": 2})
        await producer.send(["slow"], merchant.url, 6)
        await merchant.wait_for(2)
        assert await service.stop() == 0
        assert len(merchant.received) == 2
        assert [event["decision"] for event in service.events if event["event"] == "attempt"] == ["complete"] * 2
    assert await in_queue(variables, "work.1s") == 4


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
async def test_no_callback_to_a_blocked_merchant_starts_after_the_answer(
    broker: Any, namespace: str, rounds: int
) -> None:
    """Judged by the receiver, under load, also while a slot restarts."""
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_LOG__LEVEL="warning", **ROOMY)
    async with (
        Simulator({"/m0": Script.parse("500,ok")}) as merchant,
        running(variables),
        operator_of(variables) as operator,
        Producer(variables) as producer,
        producer.load(["m0", "m1", "m2"], merchant.url, 300),
    ):
        for turn in range(rounds):
            before = await merchant.wait_for(len(merchant.received) + 100)
            seen = len([each for each in before if each.path == "/m0"])
            name = SLOTS[turn // 2 % 2]
            if turn % 4 == 1:
                os.kill((await until_slot(operator, name, 60, state="ready"))["pid"], signal.SIGKILL)
            elif turn % 4 == 3:
                epoch = (await until_slot(operator, name, 60, state="ready"))["epoch"]
                restart = asyncio.create_task(operator.ask("restart", {"to": name}, timeout=90))
                await until_restarting(operator, name, epoch)
            block = {"key": "block/m0", "value": {"blocked": True}, "critical": True, "timeout": 30}
            answer = await operator.ask("push", block, timeout=60)
            assert set(results(answer).values()) <= {"applied", "gone"}
            assert turn % 2 or set(results(answer).values()) == {"applied"}
            until = await handled(merchant)
            assert len([each for each in merchant.received if each.path == "/m0"]) >= seen
            if turn % 4 == 3:
                assert [slot["result"] for slot in (await restart)["slots"]] == ["restarted"]
            await until_slot(operator, "tier:1s", 60, state="ready")
            after = await merchant.wait_for(until + 150)
            assert [each for each in after[until:] if each.path == "/m0"] == [], f"round {turn}"
            await operator.ask("clear", {"key": "block/m0"})
            await merchant.wait_for(lambda seen, until=until: any(each.path == "/m0" for each in seen[until:]))


async def test_the_answer_to_a_block_waits_for_running_callbacks_but_not_for_long(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", **ROOMY)
    scripts = {"/short": Script.parse("slow:0.5"), "/long": Script.parse("slow:8")}
    async with (
        Simulator(scripts) as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        short, long = await producer.send(["short", "long"], merchant.url, 2)
        await merchant.wait_for(2)
        answer = await operator.ask("push", {"key": "block/short", "value": {"blocked": True}, "critical": True})
        assert results(answer) == {"tier:1s": "applied"}
        over = await service.event("attempt", notification=short)
        assert over["decision"] == "complete", "what runs finishes"
        answer = await operator.ask("push", {"key": "block/long", "value": {"blocked": True}, "critical": True})
        assert results(answer) == {"tier:1s": "applied"}
        assert [each["event"] for each in service.events if each.get("notification") == long] == []
        await service.event("block.running", merchant="long")
        assert (await service.event("attempt", notification=long))["decision"] == "complete"


async def test_what_is_blocked_is_held_with_its_payload(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", **ROOMY)
    async with (
        Simulator() as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        value = {"blocked": True, "reason": "wrong url"}
        await operator.ask("push", {"key": "block/m/with slash", "value": value, "critical": True})
        await operator.ask("push", {"key": "block/m1", "value": value, "critical": True})
        blocked, free = await producer.send(["m1", "m2"], merchant.url, 2)
        held = await service.event("held", notification=blocked)
        assert (held["reason"], held["why"]) == ("blocked", "wrong url")
        await service.event("attempt", notification=free)
        assert [each.webhook_id for each in merchant.received] == [free]
        await until_slot(operator, "tier:1s", state="ready")
        statistics = (await operator.ask("status"))["slots"][0]["statistics"]
        assert {"in_flight", "prefetch", "late_p50_ms", "late_p99_ms", "rate", "careful", "link"} <= statistics.keys()


async def test_a_restarted_child_keeps_pause_and_block_from_before_its_first_callback(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", **ROOMY)
    async with (
        Simulator({"/m0": Script.parse("ok")}) as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await operator.ask("push", {"key": "pause/tier:2s", "value": {"paused": True}})
        await operator.ask("push", {"key": "pause/tier:1s", "value": {"paused": True}})
        blocked = await producer.send(["m0"], merchant.url, 50, "1s")
        free = await producer.send(["m1"], merchant.url, 50, "1s")
        waiting = await producer.send(["m1"], merchant.url, 10, "2s")
        async with asyncio.timeout(20):
            while await in_queue(variables, "work.1s") < 100 or await in_queue(variables, "work.2s") < 10:
                pass
        await operator.ask("push", {"key": "block/m0", "value": {"blocked": True}, "critical": True})
        await operator.ask("clear", {"key": "pause/tier:1s"})  # everything is due: the first callback is near
        for name in ("tier:1s", "tier:2s"):
            os.kill((await slot_of(operator, name))["pid"], signal.SIGKILL)
        await until_slot(operator, "tier:2s", epoch=2, state="paused")
        await until_slot(operator, "tier:1s", epoch=2, state="ready")
        received = await merchant.wait_for(lambda seen: {each.webhook_id for each in seen} >= set(free), timeout=30)
        assert {each.path for each in received} == {"/m1"}
        for notification in blocked:
            await service.event("held", notification=notification)
        assert not {each.webhook_id for each in merchant.received} & set(waiting)
        await operator.ask("clear", {"key": "pause/tier:2s"})
        await merchant.wait_for(lambda seen: {each.webhook_id for each in seen} >= set(waiting), timeout=20)


async def test_prefetch_concurrency_and_log_level_change_live_and_nonsense_is_the_slots_error(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_LOG__LEVEL="warning", **ROOMY)
    async with (
        Simulator(default=Script.parse("slow:1")) as merchant,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await operator.ask("push", {"key": "set/tier/prefetch", "value": 4})
        await operator.ask("push", {"key": "set/tier:1s/concurrency", "value": 2})
        await operator.ask("push", {"key": "log-level/all", "value": "info"})
        sent = await producer.send(["m1"], merchant.url, 12)
        async with asyncio.timeout(20):
            while [work["state"] for work in await in_hand(operator)] != ["calling"] * 2 + ["waiting"] * 2:
                pass
        await merchant.wait_for(12, timeout=40)
        await service.settled(set(sent))
        answer = await operator.ask("push", {"key": "set/tier/prefetch", "value": "many"})
        (slot,) = answer["slots"]
        assert slot["result"] == "error"
        assert "whole number" in slot["error"]


async def test_a_tiers_rate_is_set_and_taken_back_by_the_command_while_it_works(broker: Any, namespace: str) -> None:
    """Of several merchants together; the two rates of the second half are per merchant, and come from the settings."""
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_ISOLATION__RATE="20", NOTIFIER_BREAKER__ENABLED="false"
    )
    merchants = [f"m{number}" for number in range(20)]
    async with Simulator() as merchant, running(variables) as service, Producer(variables) as producer:
        code, out, err = await notifier(variables, "ctl", "set", "1s", "rate=10")
        assert (code, err) == (0, ""), out
        limited = await producer.send(merchants, merchant.url, 20)
        await service.settled(set(limited))
        assert span(merchant, limited) >= 1.6, "20 at 10 per second, of which a quarter of a second's may go at once"

        assert (await notifier(variables, "ctl", "set", "1s", "rate=default"))[0] == 0
        free = await producer.send(merchants, merchant.url, 20)
        alone = await producer.send(["alone"], merchant.url, 20)
        await service.settled({*free, *alone})
        assert span(merchant, free) < 1.6, "one of each merchant"
        assert span(merchant, alone) >= 0.7, "20 of one at 20 per second"


def span(merchant: Simulator, sent: list[str]) -> float:
    """Seconds between the first and the last arrival of these."""
    moments = [each.ts for each in merchant.received if each.webhook_id in sent]
    assert len(moments) == len(sent)
    return (max(moments) - min(moments)) / 1000
