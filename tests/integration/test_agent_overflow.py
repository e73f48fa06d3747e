"""The end of an overflow: when nothing is held any more for want of room, and not before; on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from notifier.agent import overflow
from notifier.agent.overflow import LASTING, RENEWED, YOUNG, Overflows
from notifier.domain.decision import HoldReason
from notifier.domain.fact import Kind
from notifier.errors import DatabaseUnavailable, PeerGone
from notifier.ledger import holding
from notifier.ledger.database import Database
from notifier.ledger.writing import FactWriter
from tests import told
from tests.told import Told, notification

KEY, OTHER = "overflow/1s/m1", "overflow/3s/m1"


class Machine:
    """Stands for the master: keys that are set and cleared, and told to who follows them. now: Unix seconds."""

    def __init__(self, database: Database) -> None:
        self.now = 1000.0
        self.cleared: list[str] = []
        self.pushed: list[tuple[str, Any, float]] = []
        self.error: Exception | None = None
        self.overflows = Overflows(database, self._clear, self._push, lambda: self.now)

    async def _clear(self, key: str) -> None:
        if self.error is not None:
            raise self.error
        self.cleared.append(key)
        self.overflows.follow(key, None)

    async def _push(self, key: str, value: Any, seconds: float) -> None:
        self.pushed.append((key, value, seconds))
        self.overflows.follow(key, value)


@pytest.fixture
def machine(database: Database) -> Machine:
    return Machine(database)


async def write(database: Database, *facts: Told) -> None:
    await FactWriter(database).write(facts)


def without_room(name: str, **fields: Any) -> Told:
    return told.held(notification(name, **fields), HoldReason.NO_ROOM)


async def test_an_overflow_ends_when_nothing_is_held_for_want_of_room_and_not_before(
    database: Database, machine: Machine
) -> None:
    machine.overflows.follow(KEY, {"since": 1})
    await write(database, without_room("a"), without_room("b"))
    machine.now += 60
    assert await machine.overflows.look() == 0
    await write(database, told.opened(notification("a"), Kind.RELEASED, 1))
    assert await machine.overflows.look() == 0, "one is left"
    await write(database, told.opened(notification("b"), Kind.RELEASED, 1))
    assert await machine.overflows.look() == 1
    assert machine.cleared == [KEY]
    assert await machine.overflows.look() == 0, "it is cleared once"


async def test_another_tier_merchant_or_reason_does_not_keep_it_going(database: Database, machine: Machine) -> None:
    machine.overflows.follow(KEY, {"since": 1})
    machine.overflows.follow(OTHER, {"since": 1})
    await write(
        database,
        without_room("another", merchant="m2"),
        told.held(notification("blocked"), HoldReason.BLOCKED),
        without_room("3s") | {"tier": "3s"},
    )
    machine.now += YOUNG
    assert await machine.overflows.look() == 1
    assert machine.cleared == [KEY]


async def test_one_that_has_just_begun_is_left_alone_since_its_facts_may_be_on_their_way(machine: Machine) -> None:
    machine.overflows.follow(KEY, {"since": 1})
    machine.now += YOUNG - 0.1
    assert await machine.overflows.look() == 0
    machine.overflows.follow(KEY, {"since": 2})
    machine.now += YOUNG - 0.1
    assert await machine.overflows.look() == 0, "it began anew"
    machine.now += 0.2
    assert await machine.overflows.look() == 1


async def test_one_that_begins_anew_in_the_middle_of_a_look_is_not_ended_by_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.overflows.follow(KEY, {"since": 1})
    machine.now += 60
    ask = holding.wait_for_room

    async def slowly(*asked: Any) -> Any:
        found = await ask(*asked)
        machine.overflows.follow(KEY, {"since": 60_000})
        return found

    monkeypatch.setattr(holding, "wait_for_room", slowly)
    assert await machine.overflows.look() == 0


async def test_it_is_set_again_before_it_ends_by_itself_as_long_as_somebody_waits(
    database: Database, machine: Machine
) -> None:
    machine.overflows.follow(KEY, {"since": 7})
    await write(database, without_room("a"))
    machine.now += RENEWED - 1
    assert (await machine.overflows.look(), machine.pushed) == (0, [])
    machine.now += 1
    await machine.overflows.look()
    await machine.overflows.look()
    assert machine.pushed == [(KEY, {"since": 7}, LASTING)], "once"


async def test_with_the_database_or_the_master_away_it_is_left_and_looked_at_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overflow, "EVERY", 0.01)
    looks, ended = 0, asyncio.Event()
    look = machine.overflows.look

    async def troubled() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise DatabaseUnavailable("not now")
        machine.error = PeerGone("the master is gone") if looks == 2 else None
        count = await look()
        ended.set()
        return count

    monkeypatch.setattr(machine.overflows, "look", troubled)
    machine.overflows.follow(KEY, {"since": 1})
    machine.now += 60
    watching = asyncio.create_task(machine.overflows.watch())
    async with asyncio.timeout(10):
        await ended.wait()
    assert (looks, machine.cleared) == (3, [KEY])
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("key", ["overflow/1s", "overflow/", "overflow/1s/"])
async def test_a_key_that_names_nobody_is_left_to_whoever_set_it(machine: Machine, key: str) -> None:
    machine.overflows.follow(key, {"since": 1})
    machine.now += 60
    assert (await machine.overflows.look(), machine.cleared) == (0, [])
