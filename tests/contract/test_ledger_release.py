"""What was released is on its way until it is attempted, rests where that was in vain, and is never forgotten; on both
databases.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from notifier.domain.decision import HoldReason
from notifier.domain.fact import Kind
from notifier.ledger import holding, merchants
from notifier.ledger.database import Database
from notifier.ledger.holding import OnTheWay
from notifier.ledger.merchants import Row
from notifier.ledger.writing import FactWriter
from tests import told
from tests.told import NOW, Told, notification

NO_ROOM = HoldReason.NO_ROOM

LATER = NOW + 60_000
REASON = st.sampled_from(HoldReason)


async def write(database: Database, *facts: Told) -> None:
    await FactWriter(database).write(facts)


async def becomes(database: Database, merchant: str) -> None:
    """Registered, and enabled."""
    row = Row(merchant, 0, "{}", "enabled", None, "https://m.example/", NOW)
    await merchants.change(database, merchant, lambda _: row)


async def hopeful(database: Database, at: int = LATER) -> list[str]:
    return sorted(await holding.hopeful(database, at, needs_url=True))


async def taken(database: Database, merchant: str, at: int = LATER) -> list[str]:
    return [each.id for each in await holding.take_in_hand(database, {merchant: 10}, at, needs_url=True)]


async def test_an_attempt_between_two_releases_ends_the_rest_and_its_growth(database: Database) -> None:
    await becomes(database, "m1")
    one, now = notification(), LATER
    await write(database, told.held(one))
    for tries in range(3):
        assert await taken(database, "m1", at=now) == ["ntf_1"]
        now += holding.rest(tries)
    assert await taken(database, "m1", at=now) == ["ntf_1"]
    again = replace(one, run=1)
    await write(
        database,
        told.opened(one, Kind.RELEASED, 1),
        told.attempted(again, at=now),
        told.held(replace(again, step=1, attempt=2), at=now + 3000),
    )
    assert await hopeful(database, at=now + 3000) == ["m1"], "what it was released for before is over"
    assert await taken(database, "m1", at=now + 3000) == ["ntf_1"]
    assert await taken(database, "m1", at=now + 3000 + holding.FIRST_REST - 1) == []
    assert await taken(database, "m1", at=now + 3000 + holding.FIRST_REST) == ["ntf_1"]


@pytest.mark.parametrize(
    ("then", "counts"),
    [
        pytest.param([], OnTheWay(0, LATER), id="published, perhaps not yet marked"),
        pytest.param(["released"], OnTheWay(1), id="released"),
        pytest.param(["released", "attempted"], None, id="attempted"),
        pytest.param(["attempted"], None, id="attempted, and its release is told late"),
        pytest.param(["released", "completed"], None, id="delivered"),
        pytest.param(["released", "held"], OnTheWay(0, LATER), id="held again"),
        pytest.param(["released", "attempted", "held"], None, id="attempted and held at the next step"),
        pytest.param(["released", "poisoned"], None, id="poisoned"),
    ],
)
async def test_what_was_released_is_on_its_way_until_it_is_attempted(
    database: Database, then: list[str], counts: OnTheWay | None
) -> None:
    await becomes(database, "m1")
    one = notification()
    again = replace(one, run=1)
    await write(
        database,
        told.held(one, NO_ROOM),
        told.held(notification("another", enqueued_at=NOW + 1)),
        told.held(notification("m2", merchant="m2")),
    )
    assert await holding.on_their_way(database, LATER) == {}
    assert [each.id for each in await holding.take_in_hand(database, {"m1": 1}, LATER, needs_url=True)] == ["ntf_1"]
    facts = {
        "released": told.opened(one, Kind.RELEASED, 1),
        "attempted": told.attempted(again),
        "completed": told.completed(again),
        "held": told.held(replace(again, step=1, attempt=2) if "attempted" in then else again, NO_ROOM, LATER),
        "poisoned": told.poisoned(again),
    }
    await write(database, *(facts[kind] for kind in then))
    assert await holding.on_their_way(database, LATER + 100) == ({} if counts is None else {"m1": counts})
    for at in (LATER + holding.ON_ITS_WAY, LATER + 10 * holding.ON_ITS_WAY):
        assert await holding.on_their_way(database, at) == {}, "for a minute"


async def test_what_comes_back_is_on_its_way_until_its_rest_is_over(database: Database) -> None:
    await becomes(database, "m1")
    await write(database, told.held(notification(), NO_ROOM))
    await taken(database, "m1")
    await write(database, told.opened(notification(), Kind.RELEASED, 1), told.held(notification(run=1), NO_ROOM, LATER))
    assert await holding.on_their_way(database, LATER + holding.FIRST_REST - 1) == {"m1": OnTheWay(0, LATER)}
    assert await holding.on_their_way(database, LATER + holding.FIRST_REST) == {}


@pytest.mark.parametrize("reason", HoldReason)
async def test_what_comes_back_says_something_about_room_unless_its_reason_is_known(
    database: Database, reason: HoldReason
) -> None:
    """Who was blocked in the meantime has all of its window again at once when that is over."""
    await becomes(database, "m1")
    await write(database, told.held(notification(), reason))
    await taken(database, "m1")
    await write(database, told.opened(notification(), Kind.RELEASED, 1), told.held(notification(run=1), reason, LATER))
    says = await holding.on_their_way(database, LATER)
    assert says == ({"m1": OnTheWay(0, LATER)} if reason in {NO_ROOM, HoldReason.BREAKER_OPEN} else {})


async def test_what_could_not_go_on_is_not_on_its_way_but_rests(database: Database) -> None:
    await becomes(database, "m1")
    await write(database, told.held(notification()))
    await taken(database, "m1")
    await holding.put_back(database, ["ntf_1"])
    assert await holding.on_their_way(database, LATER) == {}
    assert await taken(database, "m1", at=LATER + holding.FIRST_REST - 1) == []
    assert await taken(database, "m1", at=LATER + holding.FIRST_REST) == ["ntf_1"]


async def test_the_oldest_are_taken_first_in_whatever_order_they_were_told(database: Database) -> None:
    await becomes(database, "m1")
    order = [3, 0, 4, 1, 2]
    await write(database, *(told.held(notification(f"n{number}", enqueued_at=NOW + number)) for number in order))
    found = [each.id for each in await holding.take_in_hand(database, {"m1": 3}, LATER, needs_url=True)]
    assert found == ["n0", "n1", "n2"]
    assert await taken(database, "m1") == ["n3", "n4"]


async def test_who_waits_for_room_is_known_by_tier_and_merchant(database: Database) -> None:
    room = HoldReason.NO_ROOM
    await write(
        database,
        told.held(notification("a"), room),
        told.held(notification("b", merchant="m2"), room) | {"tier": "3s"},
        told.held(notification("c", merchant="m2"), HoldReason.BREAKER_OPEN),
        told.held(notification("d", merchant="m3"), room),
        told.opened(notification("d", merchant="m3"), Kind.RELEASED, 1),
    )
    asked = [(tier, merchant) for tier in ("0s", "1s", "3s", "5s") for merchant in ("m1", "m2", "m3", "m4")]
    assert await holding.wait_for_room(database, asked) == {("1s", "m1"), ("3s", "m2")}
    assert await holding.wait_for_room(database, []) == set()


async def test_a_round_looks_at_nothing_but_what_it_is_about(database: Database) -> None:
    """However much is held. PostgreSQL reads a small table whole all the same, so only SQLite's plans are looked at."""
    asked: list[tuple[str, Any]] = []

    def ask(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    await becomes(database, "m1")
    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", ask)
    await holding.on_their_way(database, LATER)
    await holding.wait_for_room(database, [("1s", "m1")])
    await taken(database, "m1")
    await taken(database, "stranger")
    event.remove(engine, "before_cursor_execute", ask)
    if database.dialect != "sqlite":
        return
    looks = []
    async with database.connect() as connection:
        for statement, parameters in asked:
            if "FROM notifications" in statement:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                looks.append(" and ".join(str(step[-1]) for step in plan))
    name = "SEARCH notifications USING INDEX ix_notifications_"
    assert [look.removeprefix(name) for look in looks] == [
        "released_at_merchant (released_at>?)",
        "held_for_room_merchant_tier (merchant=? AND tier>?)",
        "held_merchant_accepted_at (merchant>? AND merchant<?)",
        "held_with_url_merchant_accepted_at (merchant>? AND merchant<?)",
    ]


RELEASE = "release"


@pytest.mark.timeout(300)
@settings(
    max_examples=20,
    deadline=None,  # a machine may be busy
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has a notification of its own
)
@given(st.data())
async def test_whatever_order_facts_come_in_what_is_held_is_released_or_reaches_its_deadline(
    database: Database, data: st.DataObject
) -> None:
    """A history that ends with it held is told in any order, some of it twice, while releases come and go: marked at
    once, marked late, or never, by an agent that died.
    """
    name = f"n{secrets.token_hex(6)}"
    await becomes(database, "m1")
    history, run, attempt = [], 0, 1
    for number, kind in enumerate(data.draw(st.lists(st.sampled_from(["failed", "replayed", "held"]), max_size=5))):
        one, at = notification(name, run=run, step=attempt - 1, attempt=attempt), NOW + 1000 * number
        match kind:
            case "failed":
                history.append(told.attempted(one, at=at))
                attempt += 1
            case "replayed":
                run, attempt = run + 1, 1
                history.append(told.opened(one, Kind.REPLAYED, run, at))
            case "held":
                history += [told.held(one, data.draw(REASON), at), told.opened(one, Kind.RELEASED, run + 1, at)]
                run += 1
    last = notification(name, run=run, step=attempt - 1, attempt=attempt)
    history.append(told.held(last, data.draw(REASON), NOW + 10_000))
    again = data.draw(st.lists(st.sampled_from(history), max_size=3))
    steps: list[Told | str] = data.draw(st.permutations([*history, *again, RELEASE, RELEASE]))
    now, late = LATER, []
    for step in steps:
        now += 1000
        if step != RELEASE:
            await write(database, step)
            continue
        for stored in await holding.take_in_hand(database, {"m1": 10}, now, needs_url=True):
            mark = told.opened(notification(stored.id), Kind.RELEASED, stored.run + 1, now)
            match data.draw(st.sampled_from(["at once", "late", "never"])):
                case "at once":
                    await write(database, mark)
                case "late":
                    late.append(mark)
    await write(database, *late)
    now += holding.LONGEST_REST
    found = await holding.stored(database, name)
    assert found is not None
    if found.run == run:
        assert (found.stands, found.stands_why) == ("held", history[-1]["reason"])
        assert name in [each.id for each in await holding.long_held(database, now, (0, ""), 1000)]
        assert await hopeful(database, at=now) == ["m1"]
        assert name in await taken(database, "m1", at=now)
    else:
        assert found.stands == "accepted", "it was released"
    await write(database, told.completed(notification(name, run=found.run)))
