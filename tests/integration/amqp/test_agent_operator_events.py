"""Operator events with a real broker and a real SQLite: what is told, once, by agents that come and go."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ledgers import attempts, notification, open_ledger
from publishing import publishing
from queues import Bench

from notifier.agent import flood, operations
from notifier.agent.operator_events import OperatorEvents
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance
from notifier.delivery.facts import Recorder
from notifier.domain import wire
from notifier.domain.decision import Exhausted
from notifier.domain.notification import OPERATIONS
from notifier.domain.registration import Off, Registration
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.ledger import merchants
from notifier.ledger.late import LateDatabase
from notifier.ledger.merchants import Row
from notifier.ledger.writing import FactWriter
from notifier.registry import form
from notifier.settings import Settings
from notifier.supervision.mirror import Follower
from tests.told import Told

OFFICE = "https://ops.example/hook"


class Line:
    """A master whose processes are all well."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.followers: list[Follower] = []

    async def control(
        self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0
    ) -> Mapping[str, Any]:
        return {"since": "2026-11-21T08:00:00.000Z", "slots": []}

    async def follow(self, follower: Follower, prefix: str = "") -> None:
        assert prefix == "breaker/"
        self.followers.append(follower)
        for key, value in self.state.items():
            await follower(key, value)

    async def push(self, key: str, value: Any) -> None:
        self.state[key] = value
        for follower in self.followers:
            await follower(key, value)


class Stage:
    """The parts around an agent's operator events."""

    def __init__(self, bench: Bench, topology: Topology, database: LateDatabase, publisher: Publisher) -> None:
        self.bench = bench
        self.topology = topology
        self.database = database
        self.line = Line()
        self._publisher = publisher
        self._recorder = Recorder(publisher, topology)

    @asynccontextmanager
    async def agent(self, machine: str = "vm-1", **operations: Any) -> AsyncIterator[tuple[OperatorEvents, FactWriter]]:
        """One agent, from its start to its end."""
        section = {"url": OFFICE, "interval": 300, **operations}
        settings = Settings(ladder="0s,5s", namespace=self.topology.namespace, machine=machine, operations=section)
        entrance = Entrance(self.topology, self._publisher, self._recorder)
        events = OperatorEvents(self.line, settings, self.database, entrance, lambda: True)
        await events.follow()
        events.start()
        try:
            yield events, FactWriter(self.database, events.exhausted)
        finally:
            await events.close()
            await entrance.flush()

    async def told(self, count: int) -> list[dict[str, Any]]:
        """The events in the first tier's work queue; their facts are taken into the ledger, as the agent does it."""
        messages = await self.bench.take(self.topology.work_queue(Tier(0)), count)
        for message in messages:
            of = wire.read(message)
            assert (of.merchant, of.url, str(of.ladder)) == (OPERATIONS, OFFICE, "0s,5s")
            assert of.reference == json.loads(of.payload)["type"]
            assert of.id == json.loads(of.payload)["id"]
        facts: list[Told] = []
        while len(facts) < count:  # several may have come in one message
            (batch,) = await self.bench.take(self.topology.ledger)
            facts += json.loads(batch.body)
        await FactWriter(self.database).write(facts)
        return [json.loads(message.body) for message in messages]

    async def nothing_more(self) -> None:
        assert await self.bench.ready(self.topology.work_queue(Tier(0))) == 0


@pytest.fixture
async def stage(broker, bench: Bench, topology: Topology, tmp_path: Path) -> AsyncIterator[Stage]:
    async with (
        open_ledger(f"sqlite:///{tmp_path}/ledger.db") as database,
        publishing(broker.url, topology) as publisher,
    ):
        stage = Stage(bench, topology, database, publisher)
        yield stage
        await stage._recorder.close()


def exhausted(name: str, merchant: str = "shop") -> list[Told]:
    return attempts(notification(name, merchant), Exhausted("HTTP 500"))


def opened(since: int, **more: Any) -> dict[str, Any]:
    return {"state": "open", "since": since, "until": since + 30_000, "failed": 9, "of": 10, "pause": 30.0, **more}


async def disable(database: LateDatabase, merchant: str, since: int) -> None:
    off = Off("answered 410 Gone", since, who="notifier")
    body = form.written(Registration(merchant, url="https://m.example/", secret=Secret.fresh(), disabled=off))
    row = Row(merchant, 0, body, "disabled", None, "https://m.example/", since)
    await merchants.change(database, merchant, lambda _: row)


async def test_a_thousand_facts_that_come_twice_are_one_event_that_counts_each_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "LAST", 60.0)
    monkeypatch.setattr(flood, "GATHER", 3600)  # until the agent ends, however long it takes to hear all of them
    facts = [fact for number in range(1000) for fact in exhausted(f"n{number}")]
    async with stage.agent() as (_, writer):
        for _ in range(2):
            for first in range(0, len(facts), 500):
                await writer.write(facts[first : first + 500])
    (event,) = await stage.told(1)
    assert (event["type"], event["data"]["count"], len(event["data"]["examples"])) == (
        "notification.exhausted", 1000, 10,
    )  # fmt: skip
    await stage.nothing_more()


async def test_what_was_counted_and_not_told_yet_is_told_when_the_agent_ends(stage: Stage) -> None:
    async with stage.agent() as (_, writer):
        await writer.write(exhausted("first"))
        await stage.told(1)
        await writer.write([*exhausted("second"), *exhausted("third"), *exhausted("ours", OPERATIONS)])
    (event,) = await stage.told(1)
    assert event["data"]["count"] == 2
    await stage.nothing_more()


async def test_the_next_agent_tells_of_what_is_still_so_only_if_nobody_has(stage: Stage) -> None:
    now_ms = int(time.time() * 1000)
    await disable(stage.database, "gone", now_ms - 1000)
    await stage.line.push("breaker/tired", opened(now_ms))
    await stage.line.push(f"breaker/{OPERATIONS}", opened(now_ms))
    for told in ({"breaker.open": "tired", "merchant.disabled": "gone"}, {}, {"breaker.open": "weary"}):
        async with stage.agent() as (events, _):
            for name, (_, round_) in events.rounds.items():
                assert name == "disabled merchants"
                await round_()
                await round_()
        found = await stage.told(len(told)) if told else []
        assert {event["type"]: event["data"]["examples"][0]["merchant"] for event in found} == told
        await stage.nothing_more()
        if not told:
            await stage.line.push("breaker/weary", opened(now_ms))
            await stage.line.push("breaker/told-by-another-machine", opened(now_ms, machine="vm-2"))


async def test_two_agents_that_hear_the_same_tell_it_under_one_id(stage: Stage) -> None:
    await stage.line.push("breaker/tired", opened(5_000))
    async with stage.agent("vm-1"), stage.agent("vm-2"):
        one, other = await stage.told(2)
    assert one["id"] == other["id"]


async def test_who_was_disabled_long_ago_is_no_news(stage: Stage) -> None:
    await disable(stage.database, "old", int(time.time() * 1000) - 7_200_000)
    async with stage.agent() as (events, _):
        await events.rounds["disabled merchants"][1]()
    await stage.nothing_more()


async def test_without_an_address_nobody_looks_and_nobody_is_told(stage: Stage) -> None:
    async with stage.agent(url=None) as (events, writer):
        assert events.rounds == {}
        await stage.line.push("breaker/tired", opened(5_000))
        await writer.write(exhausted("n"))
        assert not {"incidents", "operator events"} & {task.get_name() for task in asyncio.all_tasks()}
    await stage.nothing_more()
