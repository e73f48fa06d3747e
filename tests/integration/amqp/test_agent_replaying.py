"""Sending again, one or many, and giving up: a real broker, a real SQLite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ledgers import attempts, decoded, held, notification, open_ledger, row, rows
from publishing import publishing
from queues import Bench

from notifier.agent.cancelling import Cancelling
from notifier.agent.marking import Marker
from notifier.agent.pace import Pace
from notifier.agent.replaying import LOST_MS, PIECE, Replaying
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.facts import Recorder
from notifier.domain import fact, wire
from notifier.domain.decision import Exhausted, NextTier, Stopped
from notifier.domain.fact import Fact
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.domain.tier import Tier
from notifier.errors import Conflict, DatabaseUnavailable, InvalidInput, NotFound, PublishRefused
from notifier.ledger import replays
from notifier.ledger.holding import Stored
from notifier.ledger.late import LateDatabase
from notifier.ledger.leases import LeaseLost
from notifier.ledger.writing import FactWriter

DEFAULT = Ladder.parse("0s,5s")
ENDS = Exhausted("500 Internal Server Error")


class Registrar:
    """What cancelling needs of the registrar: it remembers."""

    def __init__(self) -> None:
        self.cancelled: list[tuple[str, int, int]] = []

    async def cancel(self, notification: str, run: int, why: str | None, until: int) -> dict[str, Any]:
        """Live everywhere."""
        self.cancelled.append((notification, run, until))
        return {"live": 1, "of": 1}


@dataclass
class Stage:
    """A replaying and all around it."""

    bench: Bench
    database: LateDatabase
    topology: Topology
    publisher: Publisher
    writer: FactWriter
    replaying: Replaying
    cancelling: Cancelling
    registrar: Registrar
    known: dict[str, Merchant]
    now: list[float]

    async def store(self, *facts: dict[str, Any]) -> None:
        """Facts that came from tier processes."""
        await self.writer.write(facts)
        self.now[0] = max(self.now[0], time.time())

    async def exhausted(self, count: int, merchant: str = "m1") -> list[str]:
        """So many that are exhausted."""
        names = [f"{merchant}-{number:04}" for number in range(count)]
        await self.store(*(each for name in names for each in attempts(notification(name, merchant), ENDS)))
        return names

    async def came(self, tier: Tier, count: int) -> list[str]:
        """The ids of what waits in a work queue, taken from it."""
        messages = await self.bench.take(self.topology.work_queue(tier), count, timeout=20)
        return sorted(wire.read(message).id for message in messages)

    async def rounds(self) -> None:
        """Until no job has anything left."""
        while await self.replaying.round():
            pass


@pytest.fixture
async def stage(broker, bench: Bench, topology: Topology, declared, ledger_url: str) -> AsyncIterator[Stage]:
    known: dict[str, Merchant] = {}
    now, registrar = [time.time()], Registrar()
    async with open_ledger(ledger_url) as database, publishing(broker.url, topology) as publisher:
        recorder = Recorder(publisher, topology)
        writer = FactWriter(database)
        marker = Marker(writer, recorder)
        replaying = Replaying(
            database,
            publisher,
            topology,
            marker,
            Pace(10_000),
            known.get,
            DEFAULT,
            topology.tiers,
            clock=lambda: now[0],
        )
        cancelling = Cancelling(
            database,
            registrar,  # type: ignore[arg-type]
            marker,
            known.get,
            DEFAULT,
            clock=lambda: now[0],
        )
        yield Stage(bench, database, topology, publisher, writer, replaying, cancelling, registrar, known, now)
        await recorder.close()


async def test_a_replay_starts_at_the_first_tier_in_a_run_of_its_own(stage: Stage) -> None:
    climbed = notification("n1", step=1, attempt=2, ladder=Ladder.parse("1s,0s"), reference="order-7")
    await stage.store(*attempts(climbed, ENDS, Tier(0)))
    assert await stage.replaying.one("n1", "alice") == {"id": "n1", "run": 1}
    (message,) = await stage.bench.take(stage.topology.work_queue(Tier(1)), timeout=5)
    came = wire.read(message)
    assert (came.id, came.run, came.step, came.attempt) == ("n1", 1, 0, 1)
    assert (came.payload, came.reference, came.ladder) == (climbed.payload, "order-7", climbed.ladder)
    assert came.due_at == int(stage.now[0] * 1000) + 1000
    now = await row(stage.database, "n1")
    assert (now["status"], now["run"]) == ("accepted", 1)
    (event,) = await rows(stage.database, "SELECT * FROM events WHERE kind = 'replayed'")
    assert (event["run"], event["who"]) == (1, "alice")


async def test_what_was_delivered_can_be_sent_again(stage: Stage) -> None:
    await stage.store(*attempts(notification("n1")))
    assert (await stage.replaying.one("n1", "alice"))["run"] == 1


async def test_the_merchants_ladder_counts_where_the_notification_names_none(stage: Stage) -> None:
    stage.known["m1"] = Merchant("m1", ladder=Ladder.parse("5s,1s"))
    await stage.store(*attempts(notification("n1", ladder=None), Stopped("410 Gone", disable=False)))
    await stage.replaying.one("n1", "alice")
    waiting = stage.topology.wait_queue(Tier(5))
    (message,) = await stage.bench.take(waiting)
    assert str(wire.read(message).ladder) == "5s,1s"


async def test_what_is_not_known_cannot_be_replayed(stage: Stage) -> None:
    with pytest.raises(NotFound, match="the ledger knows no notification 'n1'"):
        await stage.replaying.one("n1", "alice")


async def test_what_is_on_its_way_is_not_replayed_beside_itself(stage: Stage) -> None:
    climbing = notification("n1", ladder=DEFAULT)
    await stage.store(*attempts(climbing, NextTier(Tier(5), 1), Tier(0)))
    with pytest.raises(Conflict, match="n1 is on its way"):
        await stage.replaying.one("n1", "alice")
    await stage.store(*held(notification("n2")))
    with pytest.raises(Conflict, match="n2 is held"):
        await stage.replaying.one("n2", "alice")


async def test_what_was_lost_on_its_way_can_be_replayed(stage: Stage) -> None:
    await stage.store(*attempts(notification("n1", ladder=DEFAULT), NextTier(Tier(5), 1), Tier(0)))
    stage.now[0] += LOST_MS / 1000 + 10
    assert (await stage.replaying.one("n1", "alice"))["run"] == 1


async def test_without_its_payload_it_cannot_be_replayed(stage: Stage) -> None:
    facts = attempts(notification("n1"), ENDS)
    for each in facts:
        each.pop("payload", None)
    await stage.store(*facts)
    with pytest.raises(Conflict, match="the payload of n1 is not kept any more"):
        await stage.replaying.one("n1", "alice")


async def test_a_job_replays_all_that_match_and_counts_what_it_cannot(stage: Stage) -> None:
    names = await stage.exhausted(2 * PIECE + 7)
    await stage.exhausted(3, "m2")
    await stage.store(*held(notification("m1-held")))
    started = await stage.replaying.start({"merchant": "m1"}, "alice")
    assert started["total"] == len(names) + 1
    assert stage.replaying.started.is_set()
    await stage.rounds()
    assert await stage.came(Tier(1), len(names)) == names
    job = await replays.get(stage.database, started["replay"])
    assert job is not None
    assert (job.state, job.total, job.done, job.skipped) == ("done", len(names) + 1, len(names), 1)
    assert job.finished_at is not None
    assert job.shown()["who"] == "alice"
    assert len(await rows(stage.database, "SELECT * FROM events WHERE kind = 'replayed'")) == len(names)


@pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)
async def test_a_job_goes_on_where_an_agent_that_died_had_left_it(stage: Stage) -> None:
    names = await stage.exhausted(3 * PIECE)
    started = await stage.replaying.start({"status": "exhausted"}, "alice")
    assert await stage.replaying.round() == PIECE
    publishes, mark = 0, stage.replaying._marker.mark

    async def dies(facts: object) -> None:
        nonlocal publishes
        publishes += 1
        raise asyncio.CancelledError

    stage.replaying._marker.mark = dies  # type: ignore[method-assign]  # the death, between publish and mark
    with pytest.raises(asyncio.CancelledError):
        await stage.replaying.round()
    stage.replaying._marker.mark = mark  # type: ignore[method-assign]
    assert publishes == 1
    await stage.rounds()
    came = await stage.came(Tier(1), 4 * PIECE)
    assert sorted(set(came)) == names, "none is lost; what was in hand at the death came twice"
    job = await replays.get(stage.database, started["replay"])
    assert job is not None
    assert (job.state, job.done, job.skipped) == ("done", 3 * PIECE, 0)


async def test_one_that_the_broker_never_takes_is_skipped_and_no_other_is_sent_twice(stage: Stage) -> None:
    names = await stage.exhausted(4)
    big = notification("pill", extra={f"x{number}": "x" * 16_000 for number in range(10)})
    await stage.store(*attempts(big, ENDS))
    started = await stage.replaying.start({"status": "exhausted"}, "alice")
    await stage.rounds()
    job = await replays.get(stage.database, started["replay"])
    assert job is not None
    assert (job.state, job.done, job.skipped) == ("done", 4, 1)
    assert await stage.came(Tier(1), 4) == names
    assert (await row(stage.database, "pill"))["status"] == "exhausted"


@pytest.mark.parametrize("later", [PublishRefused("the queue is full"), DatabaseUnavailable("it is locked")])
async def test_what_hinders_one_for_a_while_sends_no_other_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, later: Exception
) -> None:
    """Also when what was sent has ended again before the piece is looked at again."""
    names = await stage.exhausted(5)
    started = await stage.replaying.start({"merchant": "m1"}, "alice")
    again, tried = stage.replaying._again, list[str]()

    async def hindered(stored: Stored, who: str) -> Fact:
        tried.append(stored.id)
        if stored.id == names[1] and tried.count(stored.id) < 3:
            raise later
        return await again(stored, who)

    monkeypatch.setattr(stage.replaying, "_again", hindered)
    for _ in range(2):
        with pytest.raises(type(later)):
            await stage.replaying.round()
        for name in sorted({*names} - {names[1]}):
            await stage.store(*attempts(notification(name, run=1)))
    await stage.rounds()
    assert await stage.came(Tier(1), 5) == names
    assert sorted(tried) == sorted([*names, names[1], names[1]])
    job = await replays.get(stage.database, started["replay"])
    assert job is not None
    assert (job.state, job.done, job.skipped) == ("done", 5, 0)


async def test_an_agent_that_lost_its_lease_sends_nothing_more_of_a_job(stage: Stage) -> None:
    names = await stage.exhausted(3)
    await stage.replaying.start({"status": "exhausted"}, "alice")
    stage.replaying._holds = lambda: False
    assert await stage.replaying.round() == 0
    asked = iter([True, False])
    stage.replaying._holds = lambda: next(asked, False)
    with pytest.raises(LeaseLost):
        await stage.replaying.round()
    assert await stage.bench.ready(stage.topology.wait_queue(Tier(1))) == 0
    stage.replaying._holds = lambda: True
    await stage.rounds()
    assert await stage.came(Tier(1), 3) == names


async def test_a_replay_of_a_delivered_one_is_on_its_way_like_any_other(stage: Stage) -> None:
    await stage.store(*attempts(notification("n1")))
    assert (await stage.replaying.one("n1", "alice"))["run"] == 1
    with pytest.raises(Conflict, match="is on its way"):
        await stage.replaying.one("n1", "alice")
    answer = await stage.cancelling.cancel("n1", "alice", None)
    assert answer["status"] == "stopped"
    ((_, run, _),) = stage.registrar.cancelled
    assert run == 3
    now = await row(stage.database, "n1")
    assert (now["status"], now["stands"]) == ("completed", "stopped")


async def test_what_is_cancelled_is_cancelled_also_when_the_database_goes_away_then(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.store(*held(notification("n1")))

    async def down(facts: object) -> None:
        raise DatabaseUnavailable("it is locked")

    monkeypatch.setattr(stage.writer, "write", down)
    assert (await stage.cancelling.cancel("n1", "alice", None))["status"] == "stopped"
    (told,) = await stage.bench.facts(stage.topology.ledger, 1)
    assert (told["kind"], told["notification"], told["run"]) == ("stopped", "n1", 2)


async def test_a_job_that_is_stopped_sends_no_more(stage: Stage) -> None:
    await stage.exhausted(2 * PIECE)
    started = await stage.replaying.start({"status": "exhausted"}, "alice")
    await stage.replaying.round()
    assert await stage.replaying.stop(started["replay"]) == {"replay": started["replay"], "state": "cancelled"}
    assert await stage.replaying.round() == 0
    assert await stage.bench.ready(stage.topology.wait_queue(Tier(1))) <= PIECE
    with pytest.raises(Conflict, match="has ended: it is cancelled"):
        await stage.replaying.stop(started["replay"])
    with pytest.raises(NotFound, match="there is no replay 'nonsense'"):
        await stage.replaying.stop("nonsense")


async def test_a_job_leaves_alone_what_was_accepted_after_it(stage: Stage) -> None:
    await stage.exhausted(3)
    started = await stage.replaying.start({"merchant": "m1"}, "alice")
    later = notification("later", enqueued_at=int(stage.now[0] * 1000) + 60_000)
    after = {"at": int(stage.now[0] * 1000) + 60_000}
    await stage.store(*(each | after for each in attempts(later, ENDS)))
    await stage.rounds()
    job = await replays.get(stage.database, started["replay"])
    assert job is not None
    assert (job.done, job.skipped) == (3, 0)


async def test_a_filter_that_there_is_not_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidInput):
        await stage.replaying.start({"colour": "red"}, "alice")


@pytest.mark.parametrize("held_first", [False, True], ids=["waits in the broker", "is held"])
async def test_what_is_cancelled_ends_and_its_next_runs_are_given_up_as_well(stage: Stage, held_first: bool) -> None:
    climbing = notification("n1", ladder=DEFAULT)
    facts = held(climbing) if held_first else attempts(climbing, NextTier(Tier(5), 1), Tier(0))
    await stage.store(*facts)
    answer = await stage.cancelling.cancel("n1", "alice", "refunded")
    assert (answer["status"], answer["live"]) == ("stopped", {"live": 1, "of": 1})
    ((name, run, until),) = stage.registrar.cancelled
    assert (name, run) == ("n1", 2)
    assert until > stage.now[0] * 1000 + DEFAULT.total * 1000
    now = await row(stage.database, "n1")
    assert (now["status"], now["reason"], now["detail"]) == ("stopped", "cancelled", "cancelled by alice: refunded")
    await stage.store(*held(climbing))
    assert (await row(stage.database, "n1"))["status"] == "stopped", "also when it turns out to have been held"
    await stage.store(*held(replace(climbing, run=1)))
    now = await row(stage.database, "n1")
    assert (now["status"], now["stands"]) == ("stopped", "stopped"), "or released in that moment, and held again"
    with pytest.raises(Conflict, match="n1 is finished: it is stopped"):
        await stage.cancelling.cancel("n1", "alice", None)
    assert (await stage.replaying.one("n1", "bob"))["run"] == 3, "beyond what was given up"


async def test_what_is_delivered_while_it_is_cancelled_counts_as_delivered(stage: Stage) -> None:
    climbing = notification("n1", ladder=DEFAULT)
    await stage.store(*decoded(fact.accepted(climbing, Tier(0), int(stage.now[0] * 1000))))
    await stage.cancelling.cancel("n1", "alice", None)
    await stage.store(*attempts(climbing))
    assert (await row(stage.database, "n1"))["status"] == "completed"


async def test_what_is_not_known_cannot_be_cancelled(stage: Stage) -> None:
    with pytest.raises(NotFound):
        await stage.cancelling.cancel("n1", "alice", None)
