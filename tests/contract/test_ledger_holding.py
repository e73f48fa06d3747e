"""What is held: who may be called again, and what is taken in hand for it; on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from notifier.domain import fact, wire
from notifier.domain.decision import HoldReason
from notifier.domain.fact import Kind
from notifier.ledger import holding, merchants, replays
from notifier.ledger.database import Database
from notifier.ledger.merchants import Row
from notifier.ledger.writing import FactWriter
from tests import told
from tests.told import NOW, ONE, Told, notification

LATER = NOW + 60_000


async def write(database: Database, *facts: Told) -> None:
    await FactWriter(database).write(facts)


async def becomes(database: Database, merchant: str, standing: str = "enabled", **fields: Any) -> None:
    """The registry says so."""
    given: dict[str, Any] = {"body": "{}", "until": None, "url": "https://m.example/"} | fields
    row = Row(merchant, 0, given["body"], standing, given["until"], given["url"], NOW)
    await merchants.change(database, merchant, lambda _: row)


async def hopeful(database: Database, *, needs_url: bool = True, at: int = LATER) -> list[str]:
    return sorted(await holding.hopeful(database, at, needs_url=needs_url))


async def taken(database: Database, merchant: str, *, needs_url: bool = True, at: int = LATER) -> list[str]:
    return [each.id for each in await holding.take_in_hand(database, {merchant: 10}, at, needs_url=needs_url)]


@pytest.mark.parametrize(
    ("standing", "registered", "own_url", "with_url", "without"),
    [
        (None, None, None, False, True),
        (None, None, "https://its.own/", True, True),
        ("enabled", "https://m.example/", None, True, True),
        ("enabled", None, None, False, True),
        ("enabled", None, "https://its.own/", True, True),
        ("blocked", "https://m.example/", "https://its.own/", False, False),
        ("disabled", "https://m.example/", "https://its.own/", False, False),
        ("over", "https://m.example/", None, True, True),
        ("removed", None, None, False, True),
        ("removed", None, "https://its.own/", True, True),
    ],
)
@pytest.mark.parametrize("reason", HoldReason)
async def test_whoever_may_be_called_again_is_hopeful_and_what_can_be_sent_is_taken(
    database: Database,
    standing: str | None,
    registered: str | None,
    own_url: str | None,
    with_url: bool,
    without: bool,
    reason: HoldReason,
) -> None:
    match standing:
        case None:
            pass
        case "over":
            await becomes(database, "m1", "blocked", until=LATER - 1, url=registered)
        case "removed":
            await becomes(database, "m1", body=None, url=registered)
        case _:
            await becomes(database, "m1", standing, url=registered)
    await write(database, told.held(notification(url=own_url), reason))
    assert await hopeful(database) == ["m1"] * with_url
    assert await hopeful(database, needs_url=False) == ["m1"] * without, "the user's own callback needs no url"
    if with_url:
        assert await taken(database, "m1") == ["ntf_1"]
    elif without:
        assert await taken(database, "m1") == [], "what has nowhere to go is in nobody's way"
        assert await taken(database, "m1", needs_url=False) == ["ntf_1"]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(
            [
                told.wire(fact.poisoned(wire.write(notification(), "x"), ONE, "killed its process", NOW))[0],
                told.held(notification(), at=NOW + 5000),
            ],
            id="requeued from poison",
        ),
        pytest.param(
            [
                told.completed(notification()),
                told.opened(notification(), Kind.REPLAYED, 1),
                told.held(notification(run=1), at=NOW + 9000),
            ],
            id="delivered and replayed",
        ),
    ],
)
async def test_whatever_was_before_what_is_held_now_is_held(database: Database, facts: list[Told]) -> None:
    await becomes(database, "m1")
    await write(database, *facts)
    assert await holding.count(database) == 1
    assert await hopeful(database) == ["m1"]
    (stored,) = await holding.long_held(database, LATER, (0, ""), 10)
    assert (stored.id, stored.stands_why) == ("ntf_1", "disabled"), "its deadline counts"
    assert await taken(database, "m1") == ["ntf_1"]


async def test_merchants_with_nothing_to_release_are_not_hopeful_however_many_there_are(database: Database) -> None:
    for number in range(20):
        await becomes(database, f"m{number:02}", "enabled" if number % 5 == 0 else "blocked")
        await write(database, *(told.held(notification(f"n{number}-{n}", merchant=f"m{number:02}")) for n in range(3)))
    assert await hopeful(database) == ["m00", "m05", "m10", "m15"]
    assert len(await taken(database, "m05")) == 3
    assert await hopeful(database) == ["m00", "m10", "m15"], "what is in hand rests"
    assert await hopeful(database, at=LATER + holding.FIRST_REST) == ["m00", "m05", "m10", "m15"]


async def test_a_look_for_what_may_be_released_reads_no_row_of_a_blocked_merchant(database: Database) -> None:
    """PostgreSQL reads a small table whole all the same, so only SQLite's plan is looked at."""
    asked: list[tuple[str, Any]] = []

    def ask(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", ask)
    await hopeful(database)
    event.remove(engine, "before_cursor_execute", ask)
    (statement, parameters), *_ = [each for each in asked if "RECURSIVE" in each[0]]
    if database.dialect == "sqlite":
        async with database.connect() as connection:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
        looks = [str(step[-1]) for step in plan if "notifications" in str(step[-1])]
        assert len(looks) == 4, "the first merchant, the next one, and whether there is one for it, or one with a url"
        assert sum("ix_notifications_held_merchant_accepted_at" in look for look in looks) == 3
        assert sum("ix_notifications_held_with_url_merchant_accepted_at" in look for look in looks) == 1
        assert sum("merchant" in look and "SEARCH" in look for look in looks) >= 2


async def test_what_is_tried_in_vain_rests_longer_each_time(database: Database) -> None:
    await becomes(database, "m1")
    await write(database, told.held(notification()))
    now = LATER
    for tries in range(9):
        assert await taken(database, "m1", at=now) == ["ntf_1"]
        assert await taken(database, "m1", at=now + holding.rest(tries) - 1) == []
        now += holding.rest(tries)
    assert holding.rest(8) == holding.LONGEST_REST


async def test_a_job_goes_on_from_where_it_was_read_and_from_nowhere_else(database: Database) -> None:
    first = await replays.create(database, {}, "ann", 10, NOW)
    assert await replays.advance(database, first, 3, 1, "a")
    assert not await replays.advance(database, first, 3, 1, "b"), "another agent has done that piece"
    then = await replays.get(database, first.id)
    assert then is not None
    assert (then.cursor, then.done, then.skipped) == ("a", 3, 1)
    assert await replays.advance(database, then, 6, 0, "c")


async def test_a_job_knows_what_it_has_sent_again(database: Database) -> None:
    job = await replays.create(database, {}, "ann", 3, NOW)
    by_it, by_another = (told.opened(notification(name), Kind.REPLAYED, 1) for name in "ab")
    await write(database, by_it | {"who": job.by}, by_another, told.held(notification("c")))
    assert await replays.replayed_by(database, ["a", "b", "c"], job.by) == {"a"}
