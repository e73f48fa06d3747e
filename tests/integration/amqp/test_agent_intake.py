"""Facts on their way into the ledger: a real broker, a real SQLite, and everything that can go wrong between them."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from ledgers import attempts, body, notification, open_ledger, row, rows, until, url_of
from publishing import message, publishing
from queues import Bench

from notifier.agent import intake as intake_module
from notifier.agent import watched as watched_module
from notifier.agent.intake import Intake, Writer
from notifier.broker import poison
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.domain.decision import Stopped
from notifier.errors import DatabaseUnavailable
from notifier.ledger.late import LateDatabase
from notifier.ledger.writing import FactWriter
from tests.integration.toys.storing import store_until_killed

Facts = Sequence[Mapping[str, Any]]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[LateDatabase]:
    async with open_ledger(url_of(tmp_path)) as database:
        yield database


async def nobody(fact: Mapping[str, Any]) -> None:
    raise AssertionError(f"nobody is to be switched off: {fact}")


@asynccontextmanager
async def taking(
    broker: Any,
    topology: Topology,
    writer: Writer,
    switch_off: Callable[[Mapping[str, Any]], Awaitable[None]] = nobody,
    **more: Any,
) -> AsyncIterator[Intake]:
    """An intake at work for the length of the block."""
    async with publishing(broker.url, topology) as publisher:
        intake = Intake([broker.url], topology, publisher, writer, switch_off, **more)
        try:
            await intake.start()
            yield intake
        finally:
            await intake.close()


async def tell(publisher: Publisher, topology: Topology, *batches: Sequence[Any]) -> None:
    """Each batch is a message on the ledger queue, confirmed."""
    told = (publisher.publish(message(body(batch)), "", topology.ledger) for batch in batches)
    await asyncio.gather(*told)


class Moody:
    """A writer that does as the test says. down: it raises that. gate: it waits there."""

    def __init__(self, writer: Writer | None = None) -> None:
        self._writer = writer
        self.down: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.tried = 0
        self.batches: list[int] = []

    async def write(self, facts: Facts) -> object:
        """One transaction."""
        self.tried += 1
        await self.gate.wait()
        if self.down is not None:
            raise self.down
        written = await self._writer.write(facts) if self._writer is not None else None
        self.batches.append(len(facts))
        return written


async def test_facts_are_stored_and_then_acknowledged(broker, bench: Bench, topology, declared, database) -> None:
    async with publishing(broker.url, topology) as publisher:
        await tell(publisher, topology, *(attempts(notification(f"n{number}")) for number in range(300)))
        async with taking(broker, topology, FactWriter(database)) as intake:
            await until(lambda: intake.facts == 600, "600 facts")
        assert await bench.left(topology.ledger) == 0
    counted = await rows(database, "SELECT status, count(*) AS count FROM notifications GROUP BY status")
    assert counted == [{"status": "completed", "count": 300}]
    assert len(await rows(database, "SELECT * FROM attempts")) == 300


async def test_what_gathers_while_a_transaction_runs_goes_into_the_next_one(broker, topology, declared) -> None:
    moody = Moody()
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:
        moody.gate.clear()
        await tell(publisher, topology, attempts(notification("first")))
        await until(lambda: moody.tried, "the first transaction")
        await tell(publisher, topology, *(attempts(notification(f"n{number}")) for number in range(100)))
        await until(lambda: len(intake._gathered) == 100, "what gathers")
        moody.gate.set()
        await until(lambda: intake.facts == 202, "all facts")
    assert moody.batches == [2, 200]


async def test_facts_that_trickle_in_share_a_transaction_and_the_first_one_does_not_wait(
    broker, topology, declared, monkeypatch
) -> None:
    monkeypatch.setattr(intake_module, "APART", 3600.0)
    moody = Moody()
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:
        await tell(publisher, topology, attempts(notification("first")))
        await until(lambda: moody.batches == [2], "the first transaction, at once")
        for number in range(20):
            await tell(publisher, topology, attempts(notification(f"n{number}")))
        await until(lambda: len(intake._gathered) == 20, "what trickles in")
        assert moody.batches == [2]
        monkeypatch.setattr(intake_module, "BATCH", 21)
        await tell(publisher, topology, attempts(notification("last")))
        await until(lambda: moody.batches == [2, 42], "a whole batch, which waits no longer")
        await tell(publisher, topology, attempts(notification("closing")))
        await until(lambda: len(intake._gathered) == 1, "one more")
    assert moody.batches == [2, 42, 2]


async def test_all_that_may_come_before_it_is_acknowledged_is_a_whole_batch(
    broker, topology, declared, monkeypatch
) -> None:
    """While messages are large, few of them are given out at once: waiting for more would be waiting for nothing."""
    monkeypatch.setattr(intake_module, "APART", 3600.0)
    monkeypatch.setattr(intake_module, "PREFETCH", intake_module.NARROW)
    moody = Moody()
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:
        await tell(publisher, topology, *(attempts(notification(f"n{number}")) for number in range(100)))
        await until(lambda: intake.facts >= 2 * (100 - intake_module.NARROW), "all but less than a batch")


async def test_no_two_transactions_follow_each_other_closely_while_facts_trickle_in(
    broker, topology, declared, monkeypatch
) -> None:
    monkeypatch.setattr(intake_module, "APART", 0.2)
    moody, moments = Moody(), []
    async with (
        publishing(broker.url, topology) as publisher,
        taking(broker, topology, moody, stored=lambda facts: moments.append(time.monotonic())) as intake,
    ):
        began = time.monotonic()
        for number in range(30):
            await tell(publisher, topology, attempts(notification(f"n{number}")))
            await asyncio.sleep(0.02)  # this is the trickle
        await until(lambda: intake.facts == 60, "all facts")
    assert len(moments) <= (moments[-1] - began) / 0.2 + 2
    assert len(moments) < 30
    assert min(after - before for before, after in itertools.pairwise(moments)) > 0.1


async def test_who_follows_it_hears_of_what_is_stored_and_of_nothing_else(broker, topology, declared, database) -> None:
    heard: list[Any] = []
    bad, good = {"v": 1, "kind": "attempted"}, attempts(notification("n1"))
    async with (
        publishing(broker.url, topology) as publisher,
        taking(broker, topology, FactWriter(database), stored=heard.extend) as intake,
    ):
        await tell(publisher, topology, good, [bad, *attempts(notification("n2"))])
        await until(lambda: intake.facts == 4, "4 facts")
    assert sorted({fact["notification"] for fact in heard}) == ["n1", "n2"]
    assert bad not in heard


async def test_a_fact_that_comes_again_changes_nothing(broker, topology, declared, database) -> None:
    facts = attempts(notification("n1"))
    writer = FactWriter(database)
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, writer) as intake:
        await tell(publisher, topology, facts, facts, facts + facts)
        await until(lambda: intake.facts == 8, "8 facts")
    assert len(await rows(database, "SELECT * FROM attempts")) == 1
    assert (await row(database, "n1"))["attempts"] == 1


BAD = [
    pytest.param({"kind": "attempted"}, id="fields are missing"),
    pytest.param("no object", id="no object"),
    pytest.param(None, id="null"),
    pytest.param({"v": 1, "id": "x", "kind": "no such kind", "notification": "n", "run": 0, "at": 1}, id="kind"),
    pytest.param({"v": 1, "id": "x", "kind": "held", "notification": "n", "run": "zero", "at": 1}, id="run"),
    pytest.param({"v": 1, "id": "x", "kind": "held", "notification": "n", "run": 2**80, "at": 1}, id="too large"),
]


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_fact_goes_to_poison_with_its_reason_and_the_others_are_stored(
    broker, bench: Bench, topology, declared, database, bad: object
) -> None:
    good = [attempts(notification(f"n{number}")) for number in range(8)]
    good[5].insert(1, bad)  # type: ignore[arg-type]
    async with publishing(broker.url, topology) as publisher:
        await tell(publisher, topology, *good)
        async with taking(broker, topology, FactWriter(database)) as intake:
            await until(lambda: intake.facts == 16, "16 facts")
            (buried,) = await bench.take(topology.poison)
            await until(lambda: intake.poisoned == 1, "one that is poisoned")
        assert await bench.left(topology.ledger) == 0
    assert json.loads(buried.body) == [bad]
    read = poison.read(buried, topology)
    assert read.facts
    assert read.reason
    assert read.way_back(topology).routing_key == topology.ledger
    assert len(await rows(database, "SELECT * FROM notifications WHERE status = 'completed'")) == 8


@pytest.mark.parametrize(
    "told", [b"no JSON", b"{}", b"\xff\xfe", b"[" * 100_000], ids=["text", "object", "bytes", "deep"]
)
async def test_a_message_without_facts_goes_to_poison_as_it_is(
    broker, bench: Bench, topology, declared, database, told: bytes
) -> None:
    await bench.publish("", topology.ledger, told)
    async with taking(broker, topology, FactWriter(database)):
        (buried,) = await bench.take(topology.poison)
    assert buried.body == told
    assert "JSON" in poison.read(buried, topology).reason
    assert await bench.left(topology.ledger) == 0


async def test_without_the_database_nothing_is_taken_and_facts_wait_in_the_broker(
    broker, bench: Bench, topology, declared, database
) -> None:
    moody, heard = Moody(FactWriter(database)), list[str | None]()
    moody.down = DatabaseUnavailable("the disk is full")
    told = [attempts(notification(f"n{number}")) for number in range(50)]
    async with (
        publishing(broker.url, topology) as publisher,
        taking(broker, topology, moody, available=heard.append) as intake,
    ):
        await tell(publisher, topology, *told)
        await until(lambda: moody.tried >= 2, "a second try")
        await until(lambda: heard, "word of it")
        assert await bench.left(topology.ledger) == 50, "given back, and nobody consumes"
        assert set(heard) == {"the disk is full"}
        moody.down = None
        await until(lambda: intake.facts >= 100, "all facts")
        assert heard[-1] is None
    assert len(await rows(database, "SELECT * FROM attempts")) == 50


async def test_a_ledger_that_takes_nothing_at_all_sends_nothing_to_poison(
    broker, bench: Bench, topology, declared, database
) -> None:
    moody = Moody(FactWriter(database))
    moody.down = RuntimeError("no such column")
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:
        await tell(publisher, topology, attempts(notification("n1")))
        await until(lambda: moody.tried >= 6, "a second batch")
        moody.down = None
        await until(lambda: intake.facts >= 2, "all facts")
        assert intake.poisoned == 0
    assert await bench.ready(topology.poison) == 0


@pytest.mark.parametrize("times", [1, 3], ids=["once", "as long as it may be another's fault"])
async def test_a_fact_that_is_alone_when_something_unforeseen_happens_is_stored_all_the_same(
    broker, bench: Bench, topology, declared, database, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(intake_module, "DOUBTS", (0.01, 0.01, 0.01))
    moody = Moody(FactWriter(database))

    class Passing(Moody):
        async def write(self, facts: Facts) -> object:
            moody.down = RuntimeError("cached plan must not change result type") if moody.tried < times else None
            return await moody.write(facts)

    async with publishing(broker.url, topology) as publisher, taking(broker, topology, Passing()) as intake:
        await tell(publisher, topology, attempts(notification("n1"))[1:])
        await until(lambda: intake.facts == 1, "the fact")
    assert moody.tried == times + 1
    assert (await row(database, "n1"))["status"] == "completed"
    assert await bench.left(topology.ledger) == 0
    assert await bench.ready(topology.poison) == 0


async def test_a_fact_that_fails_again_and_again_for_reasons_unknown_goes_to_poison(
    broker, bench: Bench, topology, declared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "DOUBTS", (0.01, 0.01, 0.01))
    moody = Moody()
    moody.down = RuntimeError("nobody knows why")
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:
        await tell(publisher, topology, attempts(notification("n1"))[1:])
        (buried,) = await bench.take(topology.poison)
        await until(lambda: intake.poisoned == 1, "one that is poisoned")
    assert moody.tried == 4
    assert "nobody knows why" in poison.read(buried, topology).reason


async def test_a_fact_that_goes_to_poison_switches_nobody_off(
    broker, bench: Bench, topology, declared, database
) -> None:
    (attempt, stopped) = attempts(notification("n1"), Stopped("410 Gone", disable=True))
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, FactWriter(database)) as intake:
        await tell(publisher, topology, [attempt, stopped | {"run": "zero"}])
        await bench.take(topology.poison)
        await until(lambda: intake.facts == 1, "the attempt")
    assert await bench.left(topology.ledger) == 0, "acknowledged, and `nobody` was not called"


async def test_whatever_breaks_the_intake_off_it_begins_again(
    broker, bench: Bench, topology, declared, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_module, "FIRST_PAUSE", 0.01)
    moody, broken = Moody(FactWriter(database)), 0
    moody.down = DatabaseUnavailable("the disk is full")

    async def cannot_stop() -> bool:
        nonlocal broken
        broken += 1
        moody.down = None
        raise RuntimeError("basic.cancel failed as nobody foresaw")

    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:
        monkeypatch.setattr(intake._consumer, "stop_taking", cannot_stop)
        await tell(publisher, topology, attempts(notification("n1")))
        await until(lambda: intake.facts == 2, "all facts")
        monkeypatch.undo()
    assert broken == 1
    assert await bench.left(topology.ledger) == 0


async def test_large_facts_narrow_what_is_in_hand_and_small_ones_widen_it_again(
    broker, topology, declared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "MOST_BYTES", 4_000_000)
    monkeypatch.setattr(intake_module, "BATCH_BYTES", 1_000_000)
    moody, most = Moody(), 0
    async with publishing(broker.url, topology) as publisher, taking(broker, topology, moody) as intake:

        def measured(true: bool) -> bool:
            nonlocal most
            most = max(most, intake._bytes)
            return true

        moody.gate.clear()
        bulky = [attempts(notification(f"n{number}"))[:1] for number in range(60)]
        for facts in bulky:
            facts[0]["payload"] = "A" * 300_000
        await tell(publisher, topology, *bulky)
        await until(lambda: measured(intake._consumer.prefetch == intake_module.NARROW), "a narrow prefetch")
        moody.gate.set()
        await until(lambda: measured(intake.facts >= 60), "all facts")
        assert most < 6_000_000, "of 18 MB that waited"
        await tell(publisher, topology, *([fact] for fact in attempts(notification("small")) * 150))
        await until(lambda: intake._consumer.prefetch == intake_module.PREFETCH, "a wide prefetch")


async def test_a_merchant_that_is_gone_is_switched_off_before_the_fact_is_acknowledged(
    broker, bench: Bench, topology, declared, database
) -> None:
    called, let = list[Mapping[str, Any]](), asyncio.Event()

    async def switch_off(fact: Mapping[str, Any]) -> None:
        called.append(fact)
        if len(called) == 1:
            raise DatabaseUnavailable("just now not")
        await let.wait()

    facts = attempts(notification("n1"), Stopped("410 Gone", disable=True))
    async with publishing(broker.url, topology) as publisher:
        async with taking(broker, topology, FactWriter(database), switch_off) as intake:
            await tell(publisher, topology, facts, attempts(notification("n2")))
            await until(lambda: intake.facts == 4 and len(called) == 2, "a second try")
        assert await bench.left(topology.ledger) == 1, "the one whose merchant is not yet switched off"
        let.set()
        async with taking(broker, topology, FactWriter(database), switch_off):
            await until(lambda: len(called) == 3, "the same fact again")
        assert await bench.left(topology.ledger) == 0
    assert {(fact["kind"], fact["merchant"]) for fact in called} == {("stopped", "m1")}
    assert (await row(database, "n1"))["status"] == "stopped"


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.long)])
async def test_kill_minus_nine_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    broker, bench: Bench, topology, declared, tmp_path: Path, kills: int
) -> None:
    """The killed process is forked from one that has imported everything, so a kill hits the work, not the imports."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.toys.storing"])
    tiers = tuple(tier.name for tier in topology.tiers)
    chance, accepted = random.Random(7), list[str]()
    async with open_ledger(url_of(tmp_path)) as database, publishing(broker.url, topology) as publisher:
        for kill in range(kills):
            told = [attempts(notification(f"n{kill}-{number}")) for number in range(200)]
            await tell(publisher, topology, *told)
            accepted += [facts[0]["notification"] for facts in told]
            before = (await rows(database, "SELECT count(*) AS count FROM attempts"))[0]["count"]
            process = context.Process(
                target=store_until_killed, args=(broker.url, topology.namespace, tiers, url_of(tmp_path))
            )
            process.start()
            await until(lambda before=before: _more_than(database, before), "a first transaction", timeout=30)
            await asyncio.sleep(chance.uniform(0, 0.05))  # the kill shall hit any moment; nothing is awaited
            process.kill()
            await asyncio.to_thread(process.join)
        async with taking(broker, topology, FactWriter(database)):
            await until(lambda: _more_than(database, len(accepted) - 1), "the rest", timeout=30)
        assert await bench.left(topology.ledger) == 0
        found = await rows(database, "SELECT id, status, attempts FROM notifications")
        assert sorted(each["id"] for each in found) == sorted(accepted)
        assert {(each["status"], each["attempts"]) for each in found} == {("completed", 1)}
        assert len(await rows(database, "SELECT attempt FROM attempts")) == len(accepted)
        assert await bench.ready(topology.poison) == 0


async def _more_than(database: LateDatabase, count: int) -> bool:
    return bool((await rows(database, "SELECT count(*) AS count FROM attempts"))[0]["count"] > count)
