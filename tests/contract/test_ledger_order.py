"""Facts twice, in every order and in batches of any size: always the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from notifier.domain.decision import Complete, Exhausted, Held, HoldReason, NextTier, Poison, Stopped
from notifier.domain.fact import Kind
from notifier.domain.ladder import Ladder
from notifier.ledger.database import Database
from notifier.ledger.schema import attempts, events, notifications
from notifier.ledger.writing import FactWriter
from tests import told
from tests.told import NOW, THREE, Told, notification

Rows = dict[str, list[dict[str, Any]]]

#: Few values, so that facts often agree in all that could decide between them but themselves.
MOMENTS = st.integers(NOW, NOW + 1)
RUNS = st.integers(0, 1)
NUMBERS = st.integers(1, 2)
DECISIONS = st.sampled_from(
    [
        Complete(),
        Exhausted("HTTP 500"),
        Exhausted("timeout"),
        Stopped("410 Gone", True),
        Stopped("cancelled by ann", False),
        Held(HoldReason.DISABLED, "by hand"),
        Held(HoldReason.BLOCKED),
        Poison("kills its process"),
    ]
)


@st.composite
def facts(draw: st.DrawFn) -> Told:
    """One fact of one of two notifications, as ours or as another's program may tell it."""
    number = draw(NUMBERS)
    name, merchant = draw(st.sampled_from([("ntf_1", "m1"), ("ntf_2", "m2")]))
    one = notification(
        name,
        merchant=merchant,
        run=draw(RUNS),
        attempt=number,
        step=number - 1,
        ladder=draw(st.sampled_from([None, Ladder.parse("1s,3s"), Ladder.parse("3s,3s")])),
        reference=draw(st.sampled_from([None, "order-1", "order-2"])),
        enqueued_at=draw(st.sampled_from([None, NOW - 5, NOW])),
        payload=draw(st.sampled_from([b"", b"{}", b"\xff"])),
    )
    at = draw(MOMENTS)
    match draw(st.sampled_from(["accepted", "attempted", "concluded", "opened"])):
        case "accepted":
            return told.accepted(one, at)
        case "attempted":
            outcome = draw(st.sampled_from([told.FAILED, told.ACKNOWLEDGED, replace(told.FAILED, status=None)]))
            return told.attempted(one, outcome, draw(st.sampled_from([Complete(), NextTier(THREE, number)])), at)
        case "concluded":
            return told.concluded(one, draw(DECISIONS), at)
        case _:
            return told.opened(one, draw(st.sampled_from([Kind.REPLAYED, Kind.RELEASED])), one.run, at)


async def rows_of(database: Database, batches: Sequence[Sequence[Told]]) -> Rows:
    """What an empty ledger holds after these batches, and that every fact counted once."""
    writer = FactWriter(database)
    async with database.begin() as connection:
        for table in (notifications, attempts, events):
            await connection.execute(delete(table))
    done = [await writer.write(batch) for batch in batches]
    assert sum(each.new for each in done) == len({fact["id"] for batch in batches for fact in batch})
    found: Rows = {}
    async with database.connect() as connection:
        for table, key in ((notifications, "id"), (attempts, "attempt"), (events, "id")):
            query = select(*(column for column in table.c if column.name != "seq")).order_by(table.c[key])
            found[table.name] = [dict(row) for row in (await connection.execute(query)).mappings()]
    return found


async def agree(database: Database, data: st.DataObject) -> None:
    """Some facts, in some order and batches, leave the same rows as in one batch."""
    known = data.draw(st.lists(facts(), min_size=1, max_size=8))
    again = data.draw(st.lists(st.sampled_from(known), max_size=4))
    shuffled = data.draw(st.permutations(known + again))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(shuffled)), max_size=3)))
    batches = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)]
    assert await rows_of(database, batches) == await rows_of(database, [known])


EXAMPLES = settings(
    max_examples=30,
    deadline=None,  # a machine may be busy
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example empties the database first
)


@EXAMPLES
@given(st.data())
async def test_facts_twice_in_every_order_and_any_batches_give_the_same_rows(
    database: Database, data: st.DataObject
) -> None:
    await agree(database, data)


@pytest.mark.long
@pytest.mark.timeout(600)
@settings(EXAMPLES, max_examples=500)
@given(st.data())
async def test_facts_twice_in_every_order_and_any_batches_give_the_same_rows_in_many_more_examples(
    database: Database, data: st.DataObject
) -> None:
    await agree(database, data)
