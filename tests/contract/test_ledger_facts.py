"""Facts become rows: each once, and the row of a notification says what all of them come to."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from notifier.domain import wire
from notifier.domain.decision import HoldReason, Stopped
from notifier.domain.fact import Kind
from notifier.domain.outcome import ErrorClass
from notifier.ledger.database import Database
from notifier.ledger.schema import attempts, events, notifications
from notifier.ledger.writing import BadFact, FactWriter
from tests import told
from tests.told import FAILED, NOW, PAYLOAD, Told, notification

N = notification()
SECOND = replace(N, step=1, attempt=2, due_at=NOW + 4005)


@pytest.fixture
def writer(database: Database) -> FactWriter:
    return FactWriter(database)


async def row(database: Database, name: str = "ntf_1") -> dict[str, Any]:
    async with database.connect() as connection:
        found = await connection.execute(select(notifications).where(notifications.c.id == name))
        return dict(found.mappings().one())


async def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    async with database.connect() as connection:
        return [dict(each) for each in (await connection.execute(select(table))).mappings()]


async def test_what_an_attempt_was_is_kept_whole(database: Database, writer: FactWriter) -> None:
    fact = told.attempted(N)
    await writer.write([fact])
    (kept,) = await rows(database, attempts)
    assert kept | {"seq": 1} == {
        "seq": 1,
        "attempt": fact["attempt"],
        "notification": "ntf_1",
        "merchant": "m1",
        "run": 0,
        "number": 1,
        "step": 0,
        "tier": "1s",
        "due": NOW + 1000,
        "started": NOW + 1000,
        "late_ms": 0.0,
        "duration_ms": 12.3,
        "address": "192.0.2.7:443",
        "sent_headers": '{"webhook-id":"ntf_1","content-type":"application/json"}',
        "status": 500,
        "error": "status",
        "detail": "HTTP 500",
        "answer": b"out of order",
        "decision": "next-tier",
        "next_tier": "3s",
    }


async def test_after_an_attempt_the_row_says_what_comes_next(database: Database, writer: FactWriter) -> None:
    await writer.write([told.accepted(N), told.attempted(N)])
    found = await row(database)
    assert {name: found[name] for name in ("merchant", "reference", "url", "content_type", "payload")} == {
        "merchant": "m1",
        "reference": "order-4711",
        "url": "https://m1.example/hook",
        "content_type": "application/json",
        "payload": PAYLOAD,
    }
    assert (found["status"], found["attempts"], found["step"], found["tier"]) == ("attempted", 1, 1, "3s")
    assert (found["due_at"], found["accepted_at"]) == (NOW + 1005 + 3000, NOW)
    assert (found["last_error"], found["last_status"], found["finished_at"]) == ("status", 500, None)


STORIES: dict[str, tuple[list[Told], str, str | None]] = {
    "accepted": ([told.accepted(N)], "accepted", None),
    "attempted": ([told.attempted(N)], "attempted", None),
    "completed": ([told.attempted(N, told.ACKNOWLEDGED), told.completed(N)], "completed", None),
    "exhausted": ([told.attempted(N), told.exhausted(N)], "exhausted", "HTTP 500"),
    "stopped over exhausted": ([told.exhausted(N), told.stopped(N)], "stopped", "410 Gone"),
    "held over stopped": ([told.stopped(N), told.held(N)], "held", "disabled"),
    "poisoned": ([told.poisoned(N)], "poisoned", "kills its process"),
    "poisoned after an attempt": (
        [told.attempted(N), told.poisoned(replace(N, attempt=2, step=1), NOW + 4000)],
        "poisoned",
        "kills its process",
    ),
    "requeued and attempted": ([told.poisoned(N), told.attempted(N, at=NOW + 60_000)], "attempted", None),
    "requeued and exhausted": ([told.poisoned(N), told.exhausted(N)], "exhausted", "HTTP 500"),
    "requeued and held": ([told.poisoned(N), told.held(N)], "held", "disabled"),
    "cancelled": ([told.concluded(N, Stopped("cancelled by ann: a test", False))], "stopped", "cancelled"),
    "replayed": ([told.exhausted(N), told.opened(N, Kind.REPLAYED, 1)], "accepted", None),
    "released": ([told.held(N), told.opened(N, Kind.RELEASED, 1)], "accepted", None),
    "held in a higher run": ([told.held(replace(N, run=1)), told.exhausted(N)], "held", "disabled"),
    "completed in a lower run": ([told.completed(N), told.exhausted(replace(N, run=1))], "completed", None),
    "the later of two holds": (
        [told.held(N, HoldReason.BLOCKED, NOW + 9), told.held(N, HoldReason.DISABLED, NOW + 10)],
        "held",
        "disabled",
    ),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("backwards", [False, True])
async def test_the_status_follows_the_rule_in_either_order(
    database: Database, writer: FactWriter, story: str, backwards: bool
) -> None:
    facts, status, reason = STORIES[story]
    for fact in reversed(facts) if backwards else facts:
        await writer.write([fact])
    found = await row(database)
    assert (found["status"], found["reason"]) == (status, reason)
    assert (found["finished_at"] is None) is (status in ("accepted", "attempted", "held"))


#: What happened, and what its newest run comes to: how it stands, why it is held, and whether it is finished.
NEWEST: dict[str, tuple[list[Told], tuple[str, str, str | None, bool]]] = {
    "delivered": ([told.completed(N)], ("completed", "completed", None, True)),
    "delivered and sent again": (
        [told.completed(N), told.opened(N, Kind.REPLAYED, 1)],
        ("completed", "accepted", None, False),
    ),
    "delivered, sent again, held": (
        [told.completed(N), told.opened(N, Kind.REPLAYED, 1), told.held(replace(N, run=1))],
        ("completed", "held", "disabled", False),
    ),
    "delivered, sent again, exhausted": (
        [told.completed(N), told.opened(N, Kind.REPLAYED, 1), told.exhausted(replace(N, run=1))],
        ("completed", "exhausted", "HTTP 500", True),
    ),
    "delivered twice": ([told.completed(N), told.completed(replace(N, run=1))], ("completed", "completed", None, True)),
    "held and released": ([told.held(N), told.opened(N, Kind.RELEASED, 1)], ("accepted", "accepted", None, False)),
}


@pytest.mark.parametrize("story", NEWEST)
@pytest.mark.parametrize("backwards", [False, True])
async def test_what_happens_next_follows_the_newest_run(
    database: Database, writer: FactWriter, story: str, backwards: bool
) -> None:
    facts, expected = NEWEST[story]
    for fact in reversed(facts) if backwards else facts:
        await writer.write([fact])
    found = await row(database)
    stands = found["status"], found["stands"], found["stands_why"] or None, found["finished_at"] is not None
    assert stands == expected


async def test_the_highest_run_of_the_wire_has_an_end_in_the_ledger(database: Database, writer: FactWriter) -> None:
    last = replace(N, run=wire.MOST_RUN)
    await writer.write([told.held(last), told.exhausted(replace(last, run=last.run + 1))])
    assert ((await row(database))["status"], (await row(database))["run"]) == ("exhausted", wire.MOST_RUN + 1)


async def test_a_fact_that_comes_again_changes_nothing_and_is_counted_as_known(
    database: Database, writer: FactWriter
) -> None:
    facts = [told.accepted(N), told.attempted(N), told.attempted(SECOND, at=NOW + 4010), told.exhausted(SECOND)]
    first = await writer.write([*facts, facts[1]])
    before = await rows(database, notifications), await rows(database, attempts), await rows(database, events)
    again = await writer.write(facts)
    assert (first.new, first.known, again.new, again.known) == (4, 1, 0, 4)
    assert (await rows(database, notifications), await rows(database, attempts), await rows(database, events)) == before
    assert before[0][0]["attempts"] == 2


async def test_two_agents_with_the_same_facts_store_each_once(database: Database, writer: FactWriter) -> None:
    facts = [fact for n in range(100) for fact in _course(f"ntf_{n}")]
    done = await asyncio.gather(*(FactWriter(database).write(part) for part in (facts, facts[::-1], facts)))
    assert sum(each.new for each in done) == len(facts) == 300
    assert {each["attempts"] for each in await rows(database, notifications)} == {1}


def _course(name: str) -> list[Told]:
    one = notification(name)
    return [told.accepted(one), told.attempted(one), told.completed(one)]


async def test_the_facts_that_ask_to_disable_a_merchant_are_named_once(writer: FactWriter) -> None:
    asks, asks_not = told.stopped(N), told.stopped(SECOND, disable=False)
    assert (await writer.write([told.accepted(N), asks, asks_not])).stopped == [asks]
    assert (await writer.write([asks, asks_not])).stopped == []


async def test_an_attempt_without_payload_may_come_before_all_else(database: Database, writer: FactWriter) -> None:
    later = told.attempted(SECOND, at=NOW + 4010)
    assert "payload" not in later
    await writer.write([later])
    bare = await row(database)
    assert (bare["merchant"], bare["payload"], bare["status"], bare["tier"]) == ("m1", None, "attempted", "3s")
    await writer.write([told.accepted(N)])
    found = await row(database)
    assert (found["payload"], found["status"], found["step"], found["accepted_at"]) == (PAYLOAD, "attempted", 2, NOW)


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_told_of_another_merchant_under_an_id_that_is_taken_is_refused_and_changes_nothing(
    database: Database, writer: FactWriter, together: bool
) -> None:
    """Else what was held for one would be sent to the other, who has its own url and secret."""
    ours = told.held(notification("order-42", merchant="shop-a", payload=b"of a"), HoldReason.BLOCKED)
    other = notification("order-42", merchant="shop-b", payload=b"of b")
    theirs = [told.accepted(other, NOW + 5), told.attempted(other, at=NOW + 6), told.completed(other, NOW + 7)]
    if not together:
        await writer.write([ours])
    for fact in theirs:
        with pytest.raises(
            BadFact, match=r"order-42 is merchant shop-.'s, and this tells of merchant shop-.: ids must"
        ):
            await writer.write([ours, fact])
    await writer.write([ours])
    found = await row(database, "order-42")
    assert (found["merchant"], found["payload"], found["stands"], found["run"]) == ("shop-a", b"of a", "held", 0)
    assert await rows(database, attempts) == []


async def test_only_the_first_two_kibibytes_of_an_answer_are_kept_byte_for_byte(
    database: Database, writer: FactWriter
) -> None:
    answer = bytes(range(256)) * 40
    await writer.write([told.attempted(N, replace(FAILED, answer=answer))])
    assert (await rows(database, attempts))[0]["answer"] == answer[:2048]


async def test_texts_that_no_database_takes_are_stored_without_what_it_does_not_take(
    database: Database, writer: FactWriter
) -> None:
    bad = "a\0b\ud800c"
    outcome = replace(FAILED, detail=bad, address=bad, sent_headers=((bad, bad),))
    one = notification("ntf_1", extra={bad: bad}, payload=b"\0\xff")
    await writer.write([told.attempted(one, outcome) | {"merchant": bad}])
    (kept,) = await rows(database, attempts)
    assert (kept["detail"], kept["address"], kept["merchant"]) == ("a\ufffdb?c",) * 3
    assert kept["sent_headers"] == '{"a\\u0000b\\ud800c":"a\\u0000b\\ud800c"}'
    assert (await row(database))["payload"] == b"\0\xff"


async def test_a_message_that_nobody_can_name_is_an_event_without_a_notification(
    database: Database, writer: FactWriter
) -> None:
    fact = told.poisoned(N) | {"notification": "", "headers": {"merchant": 7}}
    assert (await writer.write([fact])).new == 1
    assert await rows(database, notifications) == []
    assert [(each["notification"], each["kind"]) for each in await rows(database, events)] == [("", "poisoned")]


GOOD = told.attempted(N)
BAD: dict[str, tuple[Any, str]] = {
    "no object": ([1], "a fact is a JSON object"),
    "a newer version": (GOOD | {"v": 2}, "a fact of version 2"),
    "no version": ({name: value for name, value in GOOD.items() if name != "v"}, "a fact of version None"),
    "an unknown kind": (GOOD | {"kind": "lost"}, "a fact of kind 'lost' is not known"),
    "no notification": (GOOD | {"notification": ""}, "'notification' is a text of 1 to 128"),
    "a run that is none": (GOOD | {"run": -1}, "'run' is a whole number"),
    "a run beyond 32 bits": (GOOD | {"run": 2**32}, "'run' is a whole number"),
    "no moment": (GOOD | {"at": "today"}, "'at' is a moment"),
    "no attempt id": (GOOD | {"attempt": None}, "'attempt' is a text"),
    "a payload that is no base64": (GOOD | {"payload": "§"}, "'payload' is base64"),
    "an answer that is no text": (GOOD | {"answer": 5}, "'answer' is base64"),
}


@pytest.mark.parametrize("fault", BAD)
async def test_a_fact_that_cannot_be_stored_is_refused_and_nothing_of_its_batch_is_stored(
    database: Database, writer: FactWriter, fault: str
) -> None:
    fact, sentence = BAD[fault]
    with pytest.raises(BadFact, match=sentence):
        await writer.write([told.accepted(N), fact])
    assert await rows(database, events) == []


ODD: dict[str, Told] = {
    "not a number": {"late_ms": float("nan"), "duration_ms": float("inf")},
    "an enormous number": {"late_ms": 10**400, "status": 10**30, "due": 10**30},
    "texts of another type": {"detail": 7, "error": ["x"], "address": {}, "tier": None, "next_tier": 3},
    "texts that are too long": {"detail": "x" * 100_000, "error": "y" * 999, "merchant": "m" * 999, "tier": "t" * 99},
    "headers of any kind": {"headers": {"reference": "r" * 9999, "url": 5, "attempt": True, "enqueued-at": "now"}},
    "headers that are none": {"headers": "none"},
    "a tier that is none": {"next_tier": "soon"},
}


@pytest.mark.parametrize("oddity", ODD)
async def test_what_can_be_stored_somehow_is_stored(database: Database, writer: FactWriter, oddity: str) -> None:
    assert (await writer.write([GOOD | ODD[oddity]])).new == 1
    assert (await row(database))["attempts"] == 1


async def test_a_clock_that_is_plainly_wrong_does_not_make_it_old(database: Database, writer: FactWriter) -> None:
    await writer.write([told.accepted(notification(enqueued_at=1_795_255_200), NOW)])  # seconds
    assert (await row(database))["accepted_at"] == NOW


async def test_no_facts_are_no_work(writer: FactWriter) -> None:
    done = await writer.write([])
    assert (done.new, done.known, list(done.stopped)) == (0, 0, [])


async def test_every_class_of_error_and_what_a_merchant_answered_can_be_read_back(
    database: Database, writer: FactWriter
) -> None:
    outcomes = [replace(FAILED, error=error, status=None) for error in ErrorClass]
    facts = [told.attempted(notification(f"ntf_{n}"), outcome) for n, outcome in enumerate(outcomes)]
    await writer.write(facts)
    assert {each["error"] for each in await rows(database, attempts)} == set(ErrorClass)
    assert base64.b64decode(facts[0]["answer"]) == (await rows(database, attempts))[0]["answer"]
