"""What the ledger answers: lists page by page, filters, one notification whole, and what is undelivered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from notifier.domain.decision import HoldReason, NextTier, Stopped
from notifier.domain.fact import Kind
from notifier.domain.outcome import ErrorClass
from notifier.domain.tier import Tier
from notifier.errors import InvalidInput
from notifier.ledger import flow, notifications
from notifier.ledger.database import Database
from notifier.ledger.notifications import Filter
from notifier.ledger.standing import STATUSES
from notifier.ledger.writing import FactWriter
from tests import told
from tests.told import ACKNOWLEDGED, FAILED, NOW, PAYLOAD, Told, notification

TIMED_OUT = replace(FAILED, status=None, error=ErrorClass.TIMEOUT)


async def write(database: Database, *facts: Told) -> None:
    await FactWriter(database).write(facts)


async def ids(database: Database, **stated: Any) -> list[str]:
    page = await notifications.list_notifications(database, Filter.parse(stated), None, 100)
    return [item["id"] for item in page.items]


@pytest.fixture
async def several(database: Database) -> Database:
    """One of each kind, accepted one second after the other."""
    one = [
        notification(f"ntf_{n}", merchant=f"m{n % 2}", reference=f"order-{n}", enqueued_at=NOW + n * 1000)
        for n in range(6)
    ]
    await write(
        database,
        told.accepted(one[0], NOW),
        told.attempted(one[1], FAILED, NextTier(Tier(3), 1), NOW + 2000),
        told.attempted(one[2], ACKNOWLEDGED, at=NOW + 3000),
        told.completed(one[2], NOW + 3000),
        told.attempted(one[3], TIMED_OUT, at=NOW + 4000),
        told.exhausted(one[3], NOW + 4000),
        told.held(one[4], HoldReason.BLOCKED, NOW + 5000),
        told.concluded(one[5], Stopped("cancelled by ann", False), NOW + 6000),
    )
    return database


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ({}, "543210"),
        ({"merchant": "m1"}, "531"),
        ({"status": "accepted"}, "0"),
        ({"status": "completed, stopped"}, "52"),
        ({"status": ["held", "exhausted"]}, "43"),
        ({"reference": "order-4"}, "4"),
        ({"tier": "3s"}, "1"),
        ({"since": "2026-11-21T10:00:04Z"}, "54"),
        ({"until": "2026-11-21T11:00:02+01:00"}, "10"),
        ({"since": NOW + 1000, "until": NOW + 2000}, "1"),
        ({"error": "timeout"}, "3"),
        ({"reason": "cancelled"}, "5"),
        ({"reason": "blocked", "merchant": "m0"}, "4"),
        ({"reason": "blocked", "merchant": "m1"}, ""),
        ({"merchant": "m1\0' OR 1=1 --"}, ""),
        ({"merchant": None}, "543210"),
    ],
)
async def test_a_filter_finds_what_fits_in_all_it_states(several: Database, stated: dict[str, Any], found: str) -> None:
    assert await ids(several, **stated) == [f"ntf_{n}" for n in found]
    assert await notifications.count(several, Filter.parse(stated)) == len(found)


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"colour": "red"}, "'colour' is no part of a filter; possible are status, merchant"),
        ({"status": "lost"}, "'lost' is no status; possible are accepted"),
        ({"status": 5}, "status is one of"),
        ({"merchant": ""}, "merchant is a text of 1 to 128"),
        ({"reference": ["a"]}, "reference is a text"),
        ({"since": "yesterday"}, "since is a moment such as"),
        ({"until": True}, "until is a moment"),
        ({"until": 2**70}, "until is a moment"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_what_is_possible(stated: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Filter.parse(stated)


def test_sending_again_means_something_in_particular_and_not_what_was_delivered() -> None:
    with pytest.raises(InvalidInput, match="would send everything again"):
        Filter.parse({"merchant": None}).to_send()
    assert Filter.parse({"merchant": "shop"}).to_send().status == set(STATUSES) - {"completed"}
    assert Filter.parse({"status": "completed"}).to_send().status == {"completed"}


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_pages_hold_each_notification_once_also_those_of_the_same_moment(database: Database, size: int) -> None:
    await write(
        database, *(told.accepted(notification(f"ntf_{n}", enqueued_at=NOW + n // 3), NOW + 9) for n in range(7))
    )
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await notifications.list_notifications(database, Filter(), after, size)
        seen += [item["id"] for item in page.items]
        if page.next is None:
            break
        assert len(page.items) == size
        after = page.next
        await write(
            database, told.accepted(notification(f"new_{len(seen)}", enqueued_at=NOW + 9), NOW + 9)
        )  # none slips in
    assert seen == [f"ntf_{n}" for n in range(6, -1, -1)]


@pytest.mark.parametrize("cursor", ["", "x", "ä", "bm9uZQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTkuYQ", "\ud800"])
async def test_a_place_that_no_page_named_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="is no `next` of a page"):
        await notifications.list_notifications(database, Filter(), cursor, 10)


async def test_one_notification_is_shown_with_all_that_happened_to_it(database: Database) -> None:
    one = notification(payload=b'{"ok":true}')
    attempt = told.attempted(one, replace(FAILED, answer=b"\xffno"))
    await write(database, told.accepted(one), attempt, told.held(replace(one, step=1, attempt=2), at=NOW + 5000))
    await write(database, told.opened(one, Kind.RELEASED, 1, NOW + 9000))
    shown = await notifications.show(database, "ntf_1")
    assert shown is not None
    assert json.loads(json.dumps(shown)) == shown
    (log,) = shown.pop("attempt_log")
    events = shown.pop("events")
    assert shown == {
        "id": "ntf_1",
        "merchant": "m1",
        "reference": "order-4711",
        "url": "https://m1.example/hook",
        "ladder": None,
        "status": "accepted",
        "reason": None,
        "detail": None,
        "run": 1,
        "attempts": 1,
        "step": 0,
        "tier": "1s",
        "due_at": "2026-11-21T10:00:10.000Z",
        "accepted_at": "2026-11-21T10:00:00.000Z",
        "updated_at": "2026-11-21T10:00:09.000Z",
        "finished_at": None,
        "last_error": "status",
        "last_status": 500,
        "content_type": "application/json",
        "payload_kept": True,
        "payload": '{"ok":true}',
        "payload_base64": "eyJvayI6dHJ1ZX0=",
    }
    assert (log["answer"], log["answer_base64"], log["sent_headers"]) == (
        "\ufffdno",
        "/25v",
        {"webhook-id": "ntf_1", "content-type": "application/json"},
    )
    assert (log["started"], log["late_ms"], log["decision"]) == ("2026-11-21T10:00:01.000Z", 0.0, "next-tier")
    assert [(event["kind"], event["run"], event["reason"], event["who"]) for event in events] == [
        ("accepted", 0, None, None),
        ("held", 0, "disabled", None),
        ("released", 1, None, "ann"),
    ]
    assert await notifications.payload(database, "ntf_1") == b'{"ok":true}'


async def test_a_payload_that_is_no_text_is_shown_in_base64_alone(database: Database) -> None:
    await write(database, told.accepted(notification(payload=b"\xff")))
    shown = await notifications.show(database, "ntf_1")
    assert shown is not None
    assert (shown["payload"], shown["payload_base64"]) == (None, "/w==")


@pytest.mark.parametrize("name", ["ntf_9", "", "a\0b", "\ud800", "x" * 10_000])
async def test_an_id_that_is_not_known_is_nothing(database: Database, name: str) -> None:
    assert await notifications.show(database, name) is None
    assert await notifications.payload(database, name) is None


async def test_what_waits_for_nothing_more_is_not_due(several: Database) -> None:
    page = await notifications.list_notifications(several, Filter(), None, 10)
    due = {item["status"]: item["due_at"] for item in page.items}
    assert {status for status, moment in due.items() if moment is not None} == {"accepted", "attempted"}


async def test_what_is_undelivered_is_grouped_by_what_stands_in_the_way(database: Database) -> None:
    facts: list[Told] = []
    for n in range(3):
        one = notification(f"a{n}", enqueued_at=NOW + n * 1000)
        facts += [told.attempted(one, TIMED_OUT, at=NOW + 5000), told.exhausted(one, NOW + 5000)]
    facts += [told.held(notification(f"b{n}", merchant="m2"), HoldReason.BLOCKED) for n in range(2)]
    facts += [told.stopped(notification("c")), told.completed(notification("d")), told.accepted(notification("e"))]
    await write(database, *facts)
    at = "2026-11-21T10:00:0{}.000Z".format
    known = {"merchant": "m1", "oldest": at(0), "newest": at(0)}
    groups = await notifications.undelivered(database, Filter())
    assert groups == [
        known | {"status": "exhausted", "reason": None, "last_error": "timeout", "count": 3, "newest": at(2)},
        known | {"merchant": "m2", "status": "held", "reason": "blocked", "last_error": None, "count": 2},
        known | {"status": "stopped", "reason": "410 Gone", "last_error": None, "count": 1},
    ]
    assert await notifications.undelivered(database, Filter.parse({"merchant": "m2"})) == [groups[1]]
    assert await notifications.undelivered(database, Filter.parse({"status": "completed"})) == []


async def test_what_was_delivered_and_is_held_when_it_is_sent_again_is_undelivered(database: Database) -> None:
    once, again = notification("a"), notification("a", run=1, due_at=NOW + 9000)
    await write(database, told.completed(once), told.opened(again, Kind.REPLAYED, 1, NOW + 8000))
    (item,) = (await notifications.list_notifications(database, Filter(), None, 10)).items
    assert (item["status"], item["finished_at"]) == ("completed", None)
    assert item["due_at"] == "2026-11-21T10:00:09.000Z"
    assert await notifications.tiers(database) == {"1s": NOW + 9000}, "it may be late like any other"
    assert await flow.replayed(database, NOW, NOW + 10_000, "ann") == {"accepted": 1}
    assert await flow.replayed(database, NOW, NOW + 10_000, "somebody else") == {}
    assert await flow.sent_again(database, NOW, NOW + 10_000, "somebody else", 10) == []
    await write(database, told.held(again, HoldReason.BLOCKED, NOW + 9100))
    (group,) = await notifications.undelivered(database, Filter())
    assert (group["status"], group["reason"], group["count"]) == ("held", "blocked", 1)
    for stated in ({"status": "held"}, {"status": "held,exhausted"}, {"reason": "blocked"}):
        (item,) = (await notifications.list_notifications(database, Filter.parse(stated), None, 10)).items
        assert (item["id"], item["status"], item["reason"], item["due_at"]) == ("a", "completed", "blocked", None)
    assert await flow.replayed(database, NOW, NOW + 10_000, "ann") == {"held": 1}
    assert [each["id"] for each in await flow.sent_again(database, NOW, NOW + 10_000, "ann", 10)] == ["a"]


async def test_totals_name_every_status(several: Database) -> None:
    assert await notifications.totals(several) == {
        "accepted": 1,
        "attempted": 1,
        "held": 1,
        "stopped": 1,
        "exhausted": 1,
        "completed": 1,
        "poisoned": 0,
    }


async def test_the_head_of_a_tier_is_the_first_that_is_due_of_what_waits_there(database: Database) -> None:
    late, later = notification("a", due_at=NOW + 1000), notification("b", due_at=NOW + 2000)
    done = notification("c", due_at=NOW + 1)
    await write(database, told.accepted(later), told.accepted(late), told.accepted(done), told.completed(done))
    await write(database, told.attempted(notification("d"), at=NOW + 500), told.held(notification("e", due_at=NOW)))
    assert await notifications.tiers(database) == {"1s": NOW + 1000, "3s": NOW + 3500}


async def test_the_head_of_a_tier_is_found_in_an_index_of_what_waits(several: Database) -> None:
    """However much there is; PostgreSQL reads a small table whole all the same, so only SQLite's plan is looked at."""
    from notifier.ledger.schema import WAITS

    query = f"EXPLAIN QUERY PLAN SELECT min(due_at) FROM notifications WHERE {WAITS} AND tier = '1s'"
    if several.dialect == "sqlite":
        async with several.connect() as connection:
            plan = str((await connection.execute(text(query))).all())
        assert "ix_notifications_tier_due_at" in plan


async def test_merchants_rates_count_their_attempts_since_a_moment(several: Database) -> None:
    assert await notifications.merchant_rates(several, 0) == {
        "m0": {"made": 1, "delivered": 1},
        "m1": {"made": 2, "delivered": 0},
    }
    assert await notifications.merchant_rates(several, NOW + 3000) == {"m1": {"made": 1, "delivered": 0}}


async def test_attempts_can_be_followed_as_they_come_in(several: Database) -> None:
    newest = await notifications.newest_attempt(several)
    assert await notifications.attempts_after(several, newest, 10) == []
    await write(several, *(told.attempted(notification(f"new_{n}")) for n in range(3)))
    first = await notifications.attempts_after(several, newest, 2)
    rest = await notifications.attempts_after(several, first[-1]["seq"], 2)
    assert {item["notification"] for item in [*first, *rest]} == {"new_0", "new_1", "new_2"}
    assert "answer" not in first[0]
    assert (len(first), len(rest), first[0]["merchant"]) == (2, 1, "m1")


async def test_an_empty_ledger_has_no_newest_attempt_and_no_heads(database: Database) -> None:
    assert await notifications.newest_attempt(database) == 0
    assert await notifications.tiers(database) == {}
    assert await notifications.undelivered(database, Filter()) == []


async def test_the_payload_is_the_same_byte_for_byte(database: Database) -> None:
    await write(database, told.accepted(notification()))
    assert await notifications.payload(database, "ntf_1") == PAYLOAD


async def test_of_one_merchant_several_statuses_are_read_each_by_its_index_and_paged_as_one(database: Database) -> None:
    many = [notification(f"n{n}", merchant="m1") for n in range(12)]
    facts = [told.held(each, HoldReason.BLOCKED, NOW + n) if n % 3 else told.exhausted(each, NOW + n)
             for n, each in enumerate(many)]  # fmt: skip
    await write(database, *facts, told.completed(notification("done", merchant="m1")), told.accepted(
        notification("other", merchant="m2")))  # fmt: skip
    wanted = Filter.parse({"merchant": "m1", "status": "held,exhausted,stopped"})
    assert len(wanted.by_index()) == 3
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await notifications.list_notifications(database, wanted, after, 5)
        seen += [item["id"] for item in page.items]
        after = page.next
        if after is None:
            break
    whole = await notifications.list_notifications(database, Filter.parse({"merchant": "m1"}), None, 100)
    assert seen == [item["id"] for item in whole.items if item["id"] != "done"]
    assert len(seen) == 12
