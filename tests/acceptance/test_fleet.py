"""Two services of one namespace with one database: a change on one is live on the other before it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from notifier.broker.cleanup import delete_namespace
from notifier.domain.merchant import Standing
from notifier.registry.cache import Registry
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.control import Producer, handled, operator_of, slot_of, until_keys
from tests.acceptance.service import RunningService, environment, notifier, running
from tests.conftest import TIERS
from tests.postgres import PrivatePostgres

#: Of each machine: the processes that have to have a change: one tier and the API.
EACH = 2


@dataclass
class Machine:
    """One of the two services."""

    name: str
    variables: Mapping[str, str]
    service: RunningService

    async def says(self, *words: str) -> tuple[int, str, str]:
        return await notifier(self.variables, *words)

    async def does(self, *words: str) -> str:
        code, out, err = await self.says(*words)
        assert (code, err) == (0, ""), (words, out)
        return out

    def standing(self, merchant: str) -> Standing | None:
        """In this machine's copy, as its tier processes read it."""
        registry = Registry(Path(self.variables["NOTIFIER_STATE_DIR"]))
        try:
            registration = registry.get(merchant)
            return None if registration is None else registration.standing(0)[0]
        finally:
            registry.close()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """None of its processes runs, as on a machine that is suspended."""
        pids = [self.service.process.pid, *self._children()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)

    def _children(self) -> list[int]:
        return [event["pid"] for event in self.service.events if event["event"] == "child.started"]


async def told_by_heartbeat(variables: Mapping[str, str], names: set[str]) -> None:
    """Wait until the master has heard whom its agent knows: `ctl fleet` asks the master, who hears it each second."""
    async with operator_of(variables) as operator, asyncio.timeout(20):
        while True:
            statistics = (await slot_of(operator, "agent"))["statistics"]
            if {machine["machine"] for machine in statistics["fleet"]} == names:
                return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def two_machines(broker: Any, namespace: str, database: str) -> AsyncIterator[tuple[Machine, Machine]]:
    """Machines a and b, which know each other."""
    first, second = (
        environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_MACHINE=name, NOTIFIER_DATABASE_URL=database)
        for name in "ab"
    )
    async with running(first, whole=True) as a, running(second, whole=True) as b:
        await a.event("fleet.met", machine="b")
        await b.event("fleet.met", machine="a")
        for variables in (first, second):
            await told_by_heartbeat(variables, {"a", "b"})
        yield Machine("a", first, a), Machine("b", second, b)


@pytest.fixture
async def fleet(broker: Any, namespace: str, postgres: PrivatePostgres) -> AsyncIterator[tuple[Machine, Machine]]:
    """On PostgreSQL, as a fleet should be; of one test, which may do anything with it."""
    async with two_machines(broker, namespace, await postgres.new_database()) as machines:
        yield machines


@pytest.fixture(scope="module")
async def lasting_fleet(broker: Any, postgres: PrivatePostgres) -> AsyncIterator[tuple[Machine, Machine]]:
    """Likewise; of all tests that leave it as they found it."""
    namespace = f"test-{secrets.token_hex(4)}"
    async with two_machines(broker, namespace, await postgres.new_database()) as machines:
        yield machines
    await delete_namespace(broker.url, namespace, TIERS)


async def test_a_change_on_one_machine_is_live_on_the_other_before_the_answer(
    lasting_fleet: tuple[Machine, Machine],
) -> None:
    await change_on_either(lasting_fleet)


@pytest.mark.long
async def test_a_change_is_live_on_the_other_machine_where_they_share_a_file(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    async with two_machines(broker, namespace, f"sqlite:///{tmp_path}/ledger.db") as machines:
        await change_on_either(machines)


async def change_on_either(machines: tuple[Machine, Machine]) -> None:
    everywhere = f"live in {2 * EACH} of {2 * EACH} processes\n"
    for here, there in (machines, reversed(machines)):
        merchant = f"shop-{here.name}"
        out = await here.does("merchants", "add", merchant, "--url", "http://127.0.0.1:9/")
        assert out.startswith(f"{merchant} is registered: {everywhere}")
        assert there.standing(merchant) is Standing.ENABLED
        assert await here.does("merchants", "disable", merchant) == f"{merchant} is disabled: {everywhere}"
        assert there.standing(merchant) is Standing.DISABLED
        assert await there.does("merchants", "enable", merchant) == f"{merchant} is enabled: {everywhere}"
        assert here.standing(merchant) is Standing.ENABLED


async def notified(merchant: Simulator) -> set[str | None]:
    """Of which notifications the merchant has heard until now."""
    await handled(merchant)
    return {received.webhook_id for received in merchant.received} - {None}


async def test_no_callback_starts_on_any_machine_after_a_block_was_answered(
    lasting_fleet: tuple[Machine, Machine],
) -> None:
    a, b = lasting_fleet
    slow = Script.parse("slow:1")  # so that there is still something due when it is blocked
    async with Simulator({"/shop": slow}) as merchant, Producer(a.variables) as producer:
        await a.does("ctl", "--fleet", "pause", "1s")
        await producer.send(["shop"], merchant.url, 150)
        await b.does("ctl", "--fleet", "resume", "1s")
        await merchant.wait_for(20)
        assert await b.does("ctl", "block", "shop", "--reason", "INC-118") == (
            f"shop is blocked: live in {2 * EACH} of {2 * EACH} processes\n"
        )
        before = await notified(merchant)
        late = await producer.send(["shop"], merchant.url, 50)
        await a.service.event("held", merchant="shop")
        async with asyncio.timeout(30):  # until the ledger has all of it
            while True:
                page = json.loads(await a.does("notifications", "undelivered", "--merchant", "shop", "--json"))
                held = sum(group["count"] for group in page["items"] if group["status"] == "held")
                if held == len(producer.accepted) - len(before):
                    break
        assert await notified(merchant) == before
        assert not before & set(late)
        assert await a.does("ctl", "unblock", "shop") == (
            f"shop is no longer blocked: live in {2 * EACH} of {2 * EACH} processes\n"
        )
        async with asyncio.timeout(30):
            while await notified(merchant) != set(producer.accepted):
                await merchant.wait_for(len(merchant.received) + 1)


@pytest.mark.long
async def test_a_machine_that_stands_still_is_named_and_catches_up_afterwards(fleet: tuple[Machine, Machine]) -> None:
    a, b = fleet
    with b.stopped():
        code, out, err = await a.says("merchants", "block", "shop")
        assert (code, out) == (1, f"shop is blocked: live in {EACH} of {EACH} processes\n")
        assert err == (
            "notifier: machine b does not have it yet: it did not answer, or could not; "
            "it looks for changes every 10 s\n"
        )
        assert b.standing("shop") is None
        code, out, err = await a.says("ctl", "--fleet", "ping")
        assert code == 1
        assert out.startswith("a: the master answers")
        assert err == "notifier: b: b did not answer in 5 s\n"
        code, _, err = await a.says("ctl", "fleet")
        assert code == 1
        assert "b: b did not answer in 10 s" in err
    async with asyncio.timeout(20):
        while True:
            if b.standing("shop") is Standing.BLOCKED:
                break
            await asyncio.sleep(0.05)


async def test_operators_steer_all_machines_from_one(lasting_fleet: tuple[Machine, Machine]) -> None:
    a, b = lasting_fleet
    told = json.loads(await a.does("ctl", "fleet", "--json"))
    assert [(each["machine"], each["here"], each["ready"], each["of"]) for each in told["machines"]] == [
        ("a", True, 3, 3),
        ("b", False, 3, 3),
    ]
    assert {each["address"].partition(":")[0] for each in told["machines"]} == {"http"}
    assert (await a.does("ctl", "--fleet", "set", "1s", "prefetch=50", "--reason", "INC-7")).splitlines() == [
        "a: tier:1s: prefetch = 50: live in 1 of 1 process",
        "b: tier:1s: prefetch = 50: live in 1 of 1 process",
    ]
    there = json.loads(await b.does("ctl", "status", "--json"))
    (entry,) = [entry for entry in there["entries"] if entry["key"] == "set/tier:1s/prefetch"]
    assert (entry["value"], entry["why"]) == (50, "INC-7")
    assert entry["who"].endswith(" on a, by agent (epoch 1)")
    pages = json.loads(await b.does("ctl", "--fleet", "status", "--json"))
    assert [page["machine"] for page in pages["machines"]] == ["b", "a"]
    code, _, err = await a.says("ctl", "--fleet", "pause", "7s")
    assert code == 1
    assert err.count("no process is called 'tier:7s'") == 2


async def test_what_a_breaker_says_on_one_machine_is_known_on_the_other_until_it_closes_on_either(
    lasting_fleet: tuple[Machine, Machine],
) -> None:
    told = {"state": "open", "until": int(time.time() * 1000) + 60_000, "tier": "1s"}
    for here, there in (lasting_fleet, reversed(lasting_fleet)):
        async with operator_of(here.variables) as operator, operator_of(there.variables) as other:
            await operator.ask("push", {"key": "breaker/shop", "value": told, "for": 660})
            (entry,) = await until_keys(other, "breaker/", 1)
            assert entry["value"] == {**told, "machine": here.name}
            assert entry["until"] is not None
            (own,) = await until_keys(operator, "breaker/", 1)
            assert own["value"] == told, "it does not come back"
            await other.ask("clear", {"key": "breaker/shop"})
            await until_keys(operator, "breaker/", 0)
            await until_keys(other, "breaker/", 0)


@pytest.mark.long  # integration/amqp/test_fleet shows it without services
async def test_a_machine_that_ends_is_not_waited_for(fleet: tuple[Machine, Machine]) -> None:
    a, b = fleet
    assert await b.service.stop() == 0
    assert await a.does("merchants", "block", "shop") == f"shop is blocked: live in {EACH} of {EACH} processes\n"
