"""The service with its agent: what reaches the ledger whatever dies, and what merchants get once they may be called."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from notifier.ledger.database import Database
from notifier.ledger.migrating import VERSION_TABLE
from notifier.ledger.schema import attempts, notifications
from notifier.processes.service import Cast, master_of
from notifier.settings import load
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from notifier.supervision.operator import Operator
from tests.acceptance.control import Producer, handled, operator_of, until_slot
from tests.acceptance.ledger import Ledger, agent_says, ask_agent
from tests.acceptance.service import RunningService, environment, notifier, running
from tests.postgres import PrivatePostgres


def received_by(merchant: Simulator) -> list[tuple[str, int]]:
    return sorted((each.webhook_id, each.attempt or 0) for each in merchant.received if each.webhook_id)


def told_by(ledger: Ledger) -> list[tuple[str, int]]:
    return sorted((notification, number) for notification, _, number in ledger.attempts())


def all_agree(ledger: Ledger, merchant: Simulator, producer: Producer) -> bool:
    """Whether everything accepted is delivered, and the ledger has a row for each request of the merchant's record.

    What the producer had in hand when its stream ended may or may not have been accepted.
    """
    known = {row["id"] for row in ledger.rows("SELECT id FROM notifications WHERE status = 'completed'")}
    ended = set(ledger.statuses()) == {"completed"} and known >= set(producer.accepted)
    return ended and told_by(ledger) == received_by(merchant)


async def test_the_whole_service_writes_every_attempt_into_the_ledger(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s")
    ledger = Ledger(variables)
    async with (
        Simulator({"/m1": Script.parse("500,ok"), "/m2": Script.parse("500")}) as merchant,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await producer.send(["m0", "m1", "m2"], merchant.url, 30)
        await ledger.until(lambda: ledger.statuses() == {"completed": 20, "exhausted": 10}, "the ends of all")
        assert told_by(ledger) == received_by(merchant)
        slot = await until_slot(operator, "agent", state="ready")
        figures = slot["statistics"]
        assert (figures["database"], figures["link"], figures["poisoned"]) == ("up", "up", 0)
        pushed = await operator.ask("push", {"key": "block/m9", "value": {"reason": "test"}, "critical": True})
        assert {each["slot"]: each["result"] for each in pushed["slots"]} == {
            "tier:0s": "applied",
            "tier:1s": "applied",
            "agent": "applied",
        }
        assert await service.stop() == 0
    assert told_by(ledger) == received_by(merchant)


@pytest.mark.parametrize("kills", [pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_an_agent_that_is_killed_under_load_leaves_one_row_per_attempt(
    broker: Any, namespace: str, kills: int
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s", NOTIFIER_LOG__LEVEL="warning")
    ledger = Ledger(variables)
    async with (
        Simulator({"/m1": Script.parse("500,ok")}) as merchant,
        running(variables, "--no-api", whole=True),
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        async with producer.load(["m0", "m1"], merchant.url, 100):
            for _ in range(kills):
                slot = await until_slot(operator, "agent", state="ready")
                before = ledger.count("SELECT count(*) FROM attempts")
                await ledger.until(
                    lambda before=before: ledger.count("SELECT count(*) FROM attempts") > before, "facts"
                )
                os.kill(slot["pid"], signal.SIGKILL)
                await until_slot(operator, "agent", epoch=slot["epoch"] + 1, timeout=60)
        await ledger.until(lambda: all_agree(ledger, merchant, producer), "the ends of all", timeout=60)


@pytest.mark.parametrize("seconds", [pytest.param(30, marks=pytest.mark.long)])
async def test_deliveries_go_on_while_the_ledger_is_locked(broker: Any, namespace: str, seconds: int) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s", NOTIFIER_LOG__LEVEL="warning")
    ledger = Ledger(variables)
    async with (
        Simulator({"/m1": Script.parse("500,ok")}) as merchant,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        async with producer.load(["m0", "m1"], merchant.url, 200):
            await merchant.wait_for(100)
            with ledger.locked():
                stood, came = ledger.count("SELECT count(*) FROM attempts"), len(merchant.received)
                await asyncio.sleep(seconds)  # the length of the lock is what is tested
                assert len(merchant.received) >= came + 150 * seconds * 0.5, "deliveries went on"
                assert ledger.count("SELECT count(*) FROM attempts") == stood
                if seconds > 6:  # beyond SQLite's own patience
                    down = await until_slot(operator, "agent", state="ready")
                    assert down["statistics"]["database"] == "down"
        await ledger.until(lambda: all_agree(ledger, merchant, producer), "the ends of all", timeout=60)
        assert [event for event in service.events if event["event"] == "child.ended"] == []


@pytest.mark.parametrize("seconds", [pytest.param(30, marks=pytest.mark.long)])
async def test_deliveries_go_on_while_postgresql_is_dead(broker: Any, namespace: str, seconds: int) -> None:
    async with PrivatePostgres() as server:
        url = await server.new_database()
        variables = environment(
            broker.url, namespace, NOTIFIER_LADDER="0s,1s", NOTIFIER_LOG__LEVEL="warning", NOTIFIER_DATABASE_URL=url
        )
        async with (
            Simulator({"/m1": Script.parse("500,ok")}) as merchant,
            running(variables, "--no-api", whole=True) as service,
            operator_of(variables) as operator,
            Producer(variables) as producer,
        ):
            async with producer.load(["m0", "m1"], merchant.url, 100):
                await merchant.wait_for(100)
                await server.kill()
                came = len(merchant.received)
                await asyncio.sleep(seconds)  # how long it is away is what is tested
                assert len(merchant.received) >= came + 75 * seconds * 0.5, "deliveries went on"
                await until_statistics(operator, "database", "down")
                await server.start()
            await until_statistics(operator, "database", "up")
            database = await Database.open(url)
            ledger = Ledger(variables)  # for its patience
            await ledger.until(lambda: agrees(database, merchant, producer), "the ends of all", timeout=60)
            await database.close()
            assert [event for event in service.events if event["event"] == "child.ended"] == []


async def until_statistics(operator: Operator, name: str, value: object) -> None:
    async with asyncio.timeout(30):
        while True:
            if (await until_slot(operator, "agent", state="ready"))["statistics"].get(name) == value:
                return
            await asyncio.sleep(0.05)


async def agrees(database: Database, merchant: Simulator, producer: Producer) -> bool:
    """As `all_agree`, of any database."""
    async with database.connect() as connection:
        ends = (await connection.execute(select(notifications.c.id, notifications.c.status))).all()
        made = (await connection.execute(select(attempts.c.notification, attempts.c.number))).all()
    ended = {status for _, status in ends} == {"completed"} and {each for each, _ in ends} >= set(producer.accepted)
    return ended and sorted(tuple(row) for row in made) == received_by(merchant)


async def registered(operator: Operator, merchant: str, url: str) -> Mapping[str, Any]:
    added = await ask_agent(operator, "merchants.change", op="add", merchant=merchant, fields={"url": url}, who="test")
    assert added["live"]["live"] == added["live"]["of"]
    return dict(added)


async def changed(operator: Operator, op: str, merchant: str, **more: Any) -> Mapping[str, Any]:
    done = await ask_agent(operator, "merchants.change", op=op, merchant=merchant, fields={}, who="test", **more)
    assert done["live"]["live"] == done["live"]["of"] > 0, done
    return dict(done)


@pytest.mark.long
async def test_no_callback_starts_after_the_block_is_answered_and_all_come_back_after_the_unblock(
    broker: Any, namespace: str
) -> None:
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_LOG__LEVEL="warning", NOTIFIER_RELEASE_RATE="1000"
    )
    ledger = Ledger(variables)
    async with (
        Simulator() as merchant,
        running(variables, "--no-api", whole=True),
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await registered(operator, "m0", f"{merchant.url}/m0")
        await producer.send(["m0"], merchant.url, 1000)
        await merchant.wait_for(50)
        await changed(operator, "block", "m0", why="test")
        came = await handled(merchant)
        await ledger.until(lambda: ledger.statuses().get("held", 0) + came >= 1000, "the others held")
        assert len(merchant.received) == came, "none after the answer"
        await changed(operator, "unblock", "m0")
        await ledger.until(lambda: ledger.statuses() == {"completed": 1000}, "the ends of all")
        assert {notification for notification, _ in received_by(merchant)} == set(producer.accepted)


@pytest.mark.long
async def test_a_merchant_that_is_gone_is_disabled_and_gets_what_was_held_once_it_is_enabled(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s")
    ledger = Ledger(variables)
    async with (
        Simulator({"/m0": Script.parse("410,ok")}, default=Script.parse("ok")) as merchant,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await registered(operator, "m0", f"{merchant.url}/m0")
        (gone,) = await producer.send(["m0"], merchant.url, 1)
        await service.event("merchant.disabled", merchant="m0")
        (later,) = await producer.send(["m0"], merchant.url, 1)
        await ledger.until(lambda: ledger.statuses() == {"stopped": 1, "held": 1}, "the second one held")
        (row,) = ledger.rows("SELECT * FROM notifications WHERE id = ?", later)
        assert row["reason"] == "disabled"
        assert len(merchant.received) == 1
        await changed(operator, "enable", "m0")
        released = await service.event("released", notification=later)
        assert released["held"] == "disabled"
        await merchant.wait_for(2)
        assert {each.webhook_id for each in merchant.received} == {gone, later}


@pytest.mark.long
async def test_what_is_sent_to_nobody_known_waits_until_the_merchant_is_registered(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s")
    ledger = Ledger(variables)
    async with (
        Simulator() as merchant,
        running(variables, "--no-api", whole=True),
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        sent = await producer.send_without_url("stranger", 5)
        await ledger.until(lambda: ledger.statuses() == {"held": 5}, "all held")
        await registered(operator, "stranger", f"{merchant.url}/stranger")
        received = await merchant.wait_for(5)
        assert sorted(str(each.webhook_id) for each in received) == sorted(sent)
        test = await ask_agent(operator, "merchants.test", merchant="stranger", who="test")
        received = await merchant.wait_for(6)
        assert received[-1].webhook_id == test["id"]
        assert b'"type": "test"' in received[-1].body


@pytest.mark.long
async def test_what_is_cancelled_is_not_attempted_again(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,2s")
    ledger = Ledger(variables)
    async with (
        Simulator(default=Script.parse("500")) as merchant,
        running(variables, "--no-api", whole=True),
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        given_up, other = await producer.send(["m0"], merchant.url, 2)
        await ledger.until(lambda: ledger.statuses() == {"attempted": 2}, "their first attempts")
        done = await ask_agent(operator, "notifications.cancel", id=given_up, who="test", why="refunded")
        assert done["status"] == "stopped"
        assert done["live"]["live"] == done["live"]["of"] == 2
        await ledger.until(lambda: ledger.statuses() == {"stopped": 1, "exhausted": 1}, "the end of the other")
        assert received_by(merchant) == sorted([(given_up, 1), (other, 1), (other, 2)])
        says = await agent_says(operator, "notifications.cancel", id="ntf_0", who="test")
        assert says == {"problem": {"kind": "not-found", "detail": "the ledger knows no notification 'ntf_0'"}}


@pytest.mark.long
async def test_a_replay_by_filter_survives_the_death_of_the_agent(broker: Any, namespace: str) -> None:
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="0s", NOTIFIER_RELEASE_RATE="50", NOTIFIER_BREAKER__ENABLED="false"
    )
    ledger = Ledger(variables)
    async with (
        Simulator({"/m0": Script.parse("500,ok")}) as merchant,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        await producer.send(["m0"], merchant.url, 200)
        await ledger.until(lambda: ledger.statuses() == {"exhausted": 200}, "the ends of all")
        started = await ask_agent(operator, "replays.start", filter={"status": "exhausted"}, who="test")
        assert started["total"] == 200
        await merchant.wait_for(260)
        slot = await until_slot(operator, "agent", state="ready")
        os.kill(slot["pid"], signal.SIGKILL)
        await ledger.until(lambda: ledger.statuses() == {"completed": 200}, "all delivered", timeout=60)
        (job,) = await ledger.until(
            lambda: ledger.rows("SELECT * FROM replays WHERE state = 'done'"), "the end of the job"
        )
        assert (job["id"], job["total"]) == (started["replay"], 200)
        at_once = 50 * 0.25  # what had been published at the death, and not yet marked, is delivered but not counted
        assert 200 - at_once <= job["done"] + job["skipped"] <= 200
        assert {str(each.webhook_id) for each in merchant.received} == set(producer.accepted)
        assert service.process.returncode is None


@pytest.mark.long
async def test_a_service_whose_database_is_away_delivers_with_the_merchants_that_it_knew(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s")
    async with Simulator() as merchant, Producer(variables) as producer:
        async with running(variables, "--no-api", whole=True), operator_of(variables) as operator:
            await registered(operator, "m0", f"{merchant.url}/m0")
        away = variables | {"NOTIFIER_DATABASE_URL": "sqlite:////proc/nowhere/ledger.db"}
        async with running(away, "--no-api", whole=True) as service, operator_of(away) as operator:
            await producer.send_without_url("m0", 3)
            await merchant.wait_for(3)
            figures = (await until_slot(operator, "agent", state="ready"))["statistics"]
            assert figures["database"] == "down"
            assert figures["registry"]["stale_since"] is not None
            says = await agent_says(operator, "merchants.change", op="block", merchant="m0", fields={}, who="test")
            assert says["problem"]["kind"] == "unavailable"
        await _facts_still_wait(service, variables)
    ledger = Ledger(variables)
    async with running(variables, "--no-api", whole=True):
        await ledger.until(lambda: ledger.statuses() == {"completed": 3}, "the facts that had waited")


async def _facts_still_wait(service: RunningService, variables: Mapping[str, str]) -> None:
    assert [event for event in service.events if event["event"] == "fact.poisoned"] == []
    assert Ledger(variables).statuses() == {}


async def test_agent_and_api_are_operated_like_the_tiers(broker: Any, namespace: str, tmp_path: Path) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s")
    settings = tmp_path / "notifier.toml"
    settings.write_text("prefetch = 100\n")
    async with running(variables, cwd=tmp_path, whole=True) as service, operator_of(variables) as operator:
        slots = {slot["slot"]: slot for slot in (await operator.ask("status"))["slots"]}
        assert {name: slot["groups"] for name, slot in slots.items() if slot["groups"][0] != "tier"} == {
            "agent": ["agent"],
            "api": ["api"],
        }
        assert slots["api"]["statistics"]["url"] == service.dashboard
        niceness = {name: os.getpriority(os.PRIO_PROCESS, slot["pid"]) for name, slot in slots.items()}
        assert niceness["agent"] > niceness["tier:0s"] == niceness["api"], "deliveries come before the books about them"
        assert os.sched_getscheduler(slots["agent"]["pid"]) == os.SCHED_BATCH
        pushed = await operator.ask("push", {"key": "log-level/agent", "value": "debug"})
        assert {each["slot"]: each["result"] for each in pushed["slots"]} == dict.fromkeys(slots, "applied")
        pushed = await operator.ask("push", {"key": "log-level/agent", "value": "loud"})
        assert {each["slot"]: each["result"] for each in pushed["slots"]}["agent"] == "error"
        await operator.ask("clear", {"key": "log-level/agent"})
        settings.write_text("prefetch = 50\nrelease_rate = 7\n")
        assert await operator.ask("reload") == {"live": ["prefetch"], "restart": ["release_rate"], "service": []}
        restarted = (await operator.ask("restart", {"to": "agent"}, timeout=70))["slots"]
        assert [(each["slot"], each["result"]) for each in restarted] == [("agent", "restarted")]
        assert await service.stop() == 0
        ended = [event["slot"] for event in service.events if event["event"] == "child.ended"]
        assert ended == ["agent", "tier:0s", "agent", "api"], "the tiers first: their last facts are for the agent"


async def test_a_database_of_another_version_ends_the_start_with_its_sentence(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s")
    with contextlib.closing(sqlite3.connect(Ledger(variables).file)) as connection:
        connection.execute(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")
        connection.execute(f"INSERT INTO {VERSION_TABLE} VALUES ('from_the_future')")
        connection.commit()
    code, _, err = await notifier(variables, "run", "--no-api")
    assert code == 78
    assert "from_the_future" in err
    assert "Traceback" not in err


async def test_tier_processes_are_not_told_what_they_need_not_know(broker: Any, namespace: str) -> None:
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="0s", NOTIFIER_API__TOKEN="a-token-of-more-than-16-characters"
    )
    settings = load({}, environment=variables)
    master = master_of(settings, Cast())
    boots = {program.slot: program.boot for program in (slot.program for slot in master.slots)}
    assert boots["agent"]["settings"]["api"]["token"] == boots["api"]["settings"]["api"]["token"]
    assert boots["tier:0s"]["settings"]["api"]["token"] is None
    assert boots["tier:0s"]["settings"]["database_url"] is None
    assert len({boot["run"] for boot in boots.values()}) == 1
