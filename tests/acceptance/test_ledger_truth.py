"""Truth under fire: agent, API and database die in turn under load; then the ledger is what the merchants saw."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from notifier.supervision.operator import Operator
from tests.acceptance.control import Producer, operator_of, slot_of, until_slot
from tests.acceptance.service import RunningService, environment, notifier, running
from tests.acceptance.truth import Books, HttpProducer, free_port, locked_exclusively, nobody_listening, received_by
from tests.postgres import PrivatePostgres

LADDER = "0s,1s,2s"
#: One of the merchants fails for ever: what it is told must end, not be held.
NO_BREAKER = {"NOTIFIER_BREAKER__ENABLED": "false"}
TIERS = ("tier:0s", "tier:1s", "tier:2s")
#: Attempts that each kind of merchant takes.
TAKES = {"ok": 1, "flaky": 2, "failing": 3, "down": 3}


@dataclass
class Field:
    """A service under load, its merchants and its producers."""

    variables: dict[str, str]
    service: RunningService
    operator: Operator
    merchants: Simulator
    amqp: Producer
    http: HttpProducer
    books: Books
    rate: int
    went_on: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def under_fire(self, what: str, least: int) -> AsyncIterator[None]:
        """Deliveries go on during the block: at least so many."""
        before = len(self.merchants.received)
        yield
        came = len(self.merchants.received) - before
        assert came >= least, f"{came} deliveries while {what}"
        self.went_on.append(what)

    async def database(self, word: str, timeout: float = 30) -> None:
        """Wait until the agent says that the database is up, or down."""
        async with asyncio.timeout(timeout):
            while (await slot_of(self.operator, "agent"))["statistics"].get("database") != word:  # noqa: ASYNC110  see until_slot
                await asyncio.sleep(0.05)


async def kill_the_agent(fire: Field) -> None:
    slot = await until_slot(fire.operator, "agent", state="ready")
    async with fire.under_fire("the agent was dead", least=10):
        os.kill(slot["pid"], signal.SIGKILL)
        after = await until_slot(fire.operator, "agent", timeout=60, epoch=slot["epoch"] + 1, state="ready")
    assert "SIGKILL" in after["reason"]


async def kill_the_api(fire: Field) -> None:
    slot = await until_slot(fire.operator, "api", state="ready")
    unanswered, accepted = len(fire.http.unknown), len(fire.http.accepted)
    async with fire.under_fire("the API was dead", least=10):
        os.kill(slot["pid"], signal.SIGKILL)
        after = await until_slot(fire.operator, "api", timeout=60, epoch=slot["epoch"] + 1, state="ready")
    assert "SIGKILL" in after["reason"]
    assert len(fire.http.unknown) > unanswered, "no request met the dead API"
    async with asyncio.timeout(20):
        while len(fire.http.accepted) < accepted + fire.rate:  # noqa: ASYNC110  the answers of another process
            await asyncio.sleep(0.05)


async def take_the_database_away(fire: Field, server: PrivatePostgres | None, seconds: float) -> None:
    await (lock_sqlite(fire, seconds) if server is None else kill_postgresql(fire, server, seconds))


async def lock_sqlite(fire: Field, seconds: float) -> None:
    file = Path(fire.variables["NOTIFIER_STATE_DIR"]) / "ledger.db"
    async with fire.under_fire("SQLite was locked", least=int(fire.rate / 2 * seconds)), locked_exclusively(file):
        stood, accepted = await fire.books.count("SELECT count(*) FROM attempts"), len(fire.http.accepted)
        await asyncio.sleep(seconds)  # the length of the lock is what is tested
        await fire.database("down")
        assert await fire.books.count("SELECT count(*) FROM attempts") == stood
        assert len(fire.http.accepted) > accepted, "nothing was accepted without the database"
    await fire.database("up")


async def kill_postgresql(fire: Field, server: PrivatePostgres, seconds: float) -> None:
    async with fire.under_fire("PostgreSQL was dead", least=int(fire.rate / 2 * seconds)):
        await server.kill()
        accepted = len(fire.http.accepted)
        with pytest.raises(ConnectionRefusedError):
            await fire.books.count("SELECT count(*) FROM attempts")
        await asyncio.sleep(seconds)  # the length of the outage is what is tested
        await fire.database("down")
        assert len(fire.http.accepted) > accepted, "nothing was accepted without the database"
        await server.start()
    await fire.database("up")


@contextlib.asynccontextmanager
async def database_of(dialect: str, state: str) -> AsyncIterator[tuple[str, Any]]:
    """Address and, for PostgreSQL, a server of its own that may be killed."""
    if dialect == "sqlite":
        yield f"sqlite:///{state}/ledger.db", None
        return
    async with PrivatePostgres() as server:
        yield await server.new_database(), server


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("dialect", "rounds", "seconds", "rate"),
    [
        ("sqlite", 1, 6.5, 30),  # beyond SQLite's own patience
        pytest.param("postgresql", 1, 2, 30, marks=pytest.mark.long),
        pytest.param("sqlite", 4, 30, 100, marks=pytest.mark.long),
        pytest.param("postgresql", 4, 30, 100, marks=pytest.mark.long),
    ],
)
async def test_the_ledger_is_what_the_merchants_saw_after_agent_api_and_database_died_under_load(
    broker: Any, namespace: str, dialect: str, rounds: int, seconds: float, rate: int
) -> None:
    """One row per attempt made: no tier process is killed here, so none may be missing and none too many.

    rate: notifications per second over AMQP, and as many over HTTP.
    """
    variables = environment(
        broker.url,
        namespace,
        NOTIFIER_LADDER=LADDER,
        NOTIFIER_LOG__LEVEL="warning",
        NOTIFIER_API__PORT=str(free_port()),
        **NO_BREAKER,
    )
    scripts = {"/flaky": Script.parse("500,ok"), "/failing": Script.parse("500")}
    async with (
        database_of(dialect, variables["NOTIFIER_STATE_DIR"]) as (url, server),
        Simulator(scripts) as merchants,
        running(variables := {**variables, "NOTIFIER_DATABASE_URL": url}, whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as amqp,
    ):
        with nobody_listening() as nowhere:
            addresses = {name: f"{merchants.url}/{name}" for name in ("ok", "flaky")} | {"down": nowhere}
            http = HttpProducer(service.dashboard, addresses)
            fire = Field(variables, service, operator, merchants, amqp, http, Books(url), rate)
            async with amqp.load(["ok", "flaky", "failing"], merchants.url, rate), http.load(rate):
                await merchants.wait_for(rate)
                for _ in range(rounds):
                    await kill_the_agent(fire)
                    await kill_the_api(fire)
                    await take_the_database_away(fire, server, seconds)
            await fire.books.until_finished(set(amqp.accepted) | http.accepted)
        await the_ledger_tells_the_truth(fire)
    assert len(fire.went_on) == 3 * rounds


async def the_ledger_tells_the_truth(fire: Field) -> None:
    received = received_by(fire.merchants)
    reaching_nobody = TAKES["down"] * await fire.books.count(
        "SELECT count(*) FROM notifications WHERE merchant = 'down'"
    )
    await fire.books.until_told(received.total() + reaching_nobody)
    told = await fire.books.attempts()
    of_the_dead = await fire.books.attempts("down")
    assert told - of_the_dead == received
    assert set(of_the_dead.values()) == {1}, "one row for each attempt that reached nobody"
    ends = await fire.books.rows("SELECT id, merchant, status, attempts FROM notifications")
    assert {(merchant, status, attempts) for _, merchant, status, attempts in ends} == {
        (name, "completed" if name in ("ok", "flaky") else "exhausted", takes) for name, takes in TAKES.items()
    }
    numbers = {(row[0], number) for row in ends for number in range(1, TAKES[row[1]] + 1)}
    assert set(told) == numbers, "each one climbed its whole ladder"
    assert received.total() > 300
    for name in TIERS:
        assert (await until_slot(fire.operator, name, state="ready"))["restarts"] == 0
    code, out, _ = await notifier(fire.variables, "poison", "list", "--json")
    assert (code, json.loads(out)) == (0, [])


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_with_tier_processes_killed_no_row_is_invented_and_none_is_missing_but_of_what_was_called_again(
    broker: Any, namespace: str
) -> None:
    """What was in flight at a killed process reached its merchant, and died with the process before it was told."""
    variables = environment(broker.url, namespace, NOTIFIER_LADDER=LADDER, NOTIFIER_LOG__LEVEL="warning", **NO_BREAKER)
    books = Books(f"sqlite:///{variables['NOTIFIER_STATE_DIR']}/ledger.db")
    scripts = {"/flaky": Script.parse("500,ok"), "/failing": Script.parse("500")}
    async with (
        Simulator(scripts) as merchants,
        running(variables, "--no-api", whole=True),
        operator_of(variables) as operator,
        Producer(variables) as amqp,
    ):
        async with amqp.load(["ok", "flaky", "failing"], merchants.url, 100):
            for name in TIERS * 5:
                slot = await until_slot(operator, name, timeout=60, state="ready")
                came = len(merchants.received)
                os.kill(slot["pid"], signal.SIGKILL)
                await until_slot(operator, name, timeout=60, epoch=slot["epoch"] + 1, state="ready")
                await merchants.wait_for(came + 100, timeout=60)
        await books.until_finished(set(amqp.accepted))

        async def none_missing_but_of_the_killed() -> bool:
            told, received = await books.attempts(), received_by(merchants)
            assert not told - received, "a row without a request"
            return all(received[attempt] > 1 for attempt in received - told)

        async with asyncio.timeout(60):
            while not await none_missing_but_of_the_killed():  # noqa: ASYNC110  a database tells nobody
                await asyncio.sleep(0.2)
        assert {attempt for attempt, times in received_by(merchants).items() if times > 1}, "no kill hit an attempt"
