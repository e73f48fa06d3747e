"""Facts: what the ledger is told, as JSON that any reader can parse."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain import fact, wire
from notifier.domain.decision import Complete, Decision, Exhausted, Held, HoldReason, NextTier, Poison, Stopped
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier

NOW = 1_800_000_000_000
TIER = Tier(3)
NOTIFICATION = Notification(
    id="ntf_1",
    merchant="m1",
    payload=b'{"paid":true}\xff',
    content_type="text/plain",
    url="https://shop.example/paid",
    ladder=Ladder.parse("1s,3s"),
    run=2,
    enqueued_at=NOW - 5000,
    due_at=NOW - 40,
    reference="order 42",
    extra={"x-mine": 1},
)
FAILED = Outcome(
    False,
    500,
    ErrorClass.STATUS,
    "HTTP 500",
    address="203.0.113.7:443",
    answer=b"oops\xff",
    duration=0.0123456,
    sent_headers=(("webhook-id", "ntf_1"),),
)
NEXT = NextTier(Tier(5), 1)


def told(*facts: Fact) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    parsed: list[dict[str, Any]] = json.loads(fact.encode(facts), parse_constant=refuse)
    return parsed


def tell(one: Fact | None) -> dict[str, Any]:
    assert one is not None
    return told(one)[0]


def attempted(notification: Notification, outcome: Outcome = FAILED, decision: Decision = NEXT) -> dict[str, Any]:
    return tell(fact.attempted(notification, TIER, outcome, decision, started_ms=NOW, now_ms=NOW + 12))


def assert_carries_the_whole(body: dict[str, Any], notification: Notification) -> None:
    assert base64.b64decode(body["payload"]) == notification.payload
    assert body["content_type"] == notification.content_type
    assert body["merchant"] == notification.merchant
    # whoever replays it can make the very notification out of it
    carrier = wire.Message(base64.b64decode(body["payload"]), body["headers"], body["content_type"])
    assert wire.read(carrier) == notification


# Encoding


def test_the_body_of_a_message_is_an_array_of_versioned_facts() -> None:
    one = Fact(Kind.HELD, "ntf_1", 0, NOW, {"reason": "no-room"}, "id-1")
    other = Fact(Kind.COMPLETED, "ntf_2", 3, NOW + 1, id="id-2")
    assert told(one, other) == [
        {"v": 1, "id": "id-1", "kind": "held", "notification": "ntf_1", "run": 0, "at": NOW, "reason": "no-room"},
        {"v": 1, "id": "id-2", "kind": "completed", "notification": "ntf_2", "run": 3, "at": NOW + 1},
    ]


def test_no_facts_are_an_empty_array() -> None:
    assert fact.encode([]) == b"[]"


def test_the_kinds_are_fixed() -> None:
    assert [str(kind) for kind in Kind] == [
        "accepted",
        "attempted",
        "completed",
        "exhausted",
        "held",
        "stopped",
        "poisoned",
        "replayed",
        "released",
    ]


def test_every_fact_has_a_uuid_of_its_own() -> None:
    ids = [tell(fact.accepted(NOTIFICATION, TIER, NOW))["id"] for _ in range(50)]
    assert len({uuid.UUID(one) for one in ids}) == 50


# Accepted


def test_accepted_says_where_it_first_waits_and_carries_the_whole() -> None:
    body = tell(fact.accepted(NOTIFICATION, Tier(1), NOW))
    assert (body["kind"], body["notification"], body["run"], body["at"]) == ("accepted", "ntf_1", 2, NOW)
    assert body["tier"] == "1s"
    assert_carries_the_whole(body, NOTIFICATION)


# Attempted


def test_an_attempt_tells_everything_about_itself() -> None:
    body = attempted(replace(NOTIFICATION, step=1, attempt=4))
    assert uuid.UUID(body.pop("id")) != uuid.UUID(body.pop("attempt"))
    assert body == {
        "v": 1,
        "kind": "attempted",
        "notification": "ntf_1",
        "run": 2,
        "at": NOW + 12,
        "number": 4,
        "step": 1,
        "tier": "3s",
        "merchant": "m1",
        "due": NOW - 40,
        "started": NOW,
        "late_ms": 40,
        "duration_ms": 12.346,
        "address": "203.0.113.7:443",
        "sent_headers": {"webhook-id": "ntf_1"},
        "status": 500,
        "error": "status",
        "detail": "HTTP 500",
        "answer": base64.b64encode(b"oops\xff").decode(),
        "decision": "next-tier",
        "next_tier": "5s",
    }


@pytest.mark.parametrize(
    ("attempt", "step", "run", "carries"),
    [(1, 0, 0, True), (2, 1, 0, False), (9, 8, 0, False), (1, 3, 0, True), (6, 0, 1, True), (7, 1, 1, False)],
)
def test_the_first_attempt_of_a_run_carries_the_whole(attempt: int, step: int, run: int, carries: bool) -> None:
    notification = replace(NOTIFICATION, attempt=attempt, step=step, run=run)
    body = attempted(notification)
    if carries:
        assert_carries_the_whole(body, notification)
    else:
        assert "payload" not in body
        assert "headers" not in body


def test_an_attempt_that_has_no_due_moment_has_no_lateness() -> None:
    body = attempted(replace(NOTIFICATION, due_at=None))
    assert (body["due"], body["late_ms"]) == (None, None)


def test_an_acknowledged_attempt_has_no_error_and_no_next_tier() -> None:
    body = attempted(NOTIFICATION, Outcome.ok(status=204), Complete())
    assert (body["status"], body["error"], body["decision"]) == (204, None, "complete")
    assert "next_tier" not in body


# What ends or holds a notification


@pytest.mark.parametrize(
    ("decision", "kind", "said"),
    [
        (Complete(), "completed", {}),
        (Exhausted("HTTP 500"), "exhausted", {"reason": "HTTP 500"}),
        (Stopped("HTTP 410", True), "stopped", {"reason": "HTTP 410", "disable": True}),
        (Held(HoldReason.NO_ROOM, "8 in flight"), "held", {"reason": "no-room", "detail": "8 in flight"}),
        (Poison("kills its process"), "poisoned", {"reason": "kills its process"}),
    ],
)
def test_terminal_and_held_facts_give_the_reason_and_carry_the_whole(
    decision: Decision, kind: str, said: dict[str, object]
) -> None:
    body = tell(fact.concluded(replace(NOTIFICATION, step=1, attempt=2), TIER, decision, NOW))
    assert (body["kind"], body["run"], body["at"], body["tier"]) == (kind, 2, NOW, "3s")
    assert {name: body.get(name) for name in said} == said
    assert_carries_the_whole(body, replace(NOTIFICATION, step=1, attempt=2))


def test_a_next_tier_ends_nothing() -> None:
    assert fact.concluded(NOTIFICATION, TIER, NEXT, NOW) is None


@pytest.mark.parametrize(
    ("decision", "name"),
    [
        (Complete(), "complete"),
        (NEXT, "next-tier"),
        (Exhausted(""), "exhausted"),
        (Stopped("", False), "stopped"),
        (Held(HoldReason.BLOCKED), "held"),
        (Poison(""), "poison"),
    ],
)
def test_decisions_have_stable_names(decision: Decision, name: str) -> None:
    assert fact.name_of(decision) == name


# Poisoned, unread


@pytest.mark.parametrize(
    ("headers", "correlation_id", "message_id", "identity"),
    [
        ({"notification": "ntf_7"}, "c", "m", "ntf_7"),
        ({"notification": "not an id"}, "c", "m", "not an id"),
        ({"notification": 7}, "c", "m", "7"),
        ({}, "c", "m", "c"),
        ({}, None, "m", "m"),
        ({}, None, None, ""),
        ({"notification": "x" * 500}, None, None, "x" * 128),
    ],
)
def test_what_could_not_be_read_keeps_as_much_of_its_identity_as_it_has(
    headers: dict[str, object], correlation_id: str | None, message_id: str | None, identity: str
) -> None:
    message = wire.Message(b"\xff", headers, None, message_id, correlation_id)
    body = tell(fact.poisoned(message, TIER, "header 'merchant' is missing", NOW))
    assert (body["kind"], body["notification"], body["run"]) == ("poisoned", identity, 0)
    assert (body["tier"], body["reason"]) == ("3s", "header 'merchant' is missing")
    assert base64.b64decode(body["payload"]) == b"\xff"


@pytest.mark.parametrize(
    ("header", "run"), [(None, 0), (3, 3), (2**31 - 1, 2**31 - 1), (2**31, 0), (-1, 0), ("3", 0), (True, 0)]
)
def test_what_could_not_be_read_counts_for_the_run_that_it_says(header: object, run: int) -> None:
    headers = {"notification": "n1", "merchant": "m1"} | ({} if header is None else {"run": header})
    assert fact.poisoned(wire.Message(b"", headers), TIER, "why", NOW).run == run


def test_a_large_payload_is_told_once_in_the_facts_of_one_message() -> None:
    large = replace(NOTIFICATION, payload=b"x" * 8_388_608, attempt=1, step=0)
    for decision in (Complete(), Exhausted("HTTP 500"), Stopped("410 Gone", True), NEXT):
        attempted = fact.attempted(large, TIER, FAILED, decision, started_ms=NOW, now_ms=NOW)
        concluded = fact.concluded(large, TIER, decision, NOW)
        facts = [attempted] if concluded is None else [attempted, concluded]
        assert sum("payload" in one.body for one in facts) == 1
        assert all("headers" in one.body for one in facts)
        assert len(fact.encode(facts)) < 16 * 1024 * 1024, "what RabbitMQ 4 takes"
    usual = replace(large, payload=b"x" * fact.LARGE)
    assert "payload" in fact.attempted(usual, TIER, FAILED, Complete(), started_ms=NOW, now_ms=NOW).body


def test_what_could_not_be_read_keeps_its_headers_but_not_the_brokers_own() -> None:
    message = wire.Message(b"", {"url": "x", "x-death": [{"count": 1}], "x-delay": -5}, "text/plain")
    body = tell(fact.poisoned(message, TIER, "why", NOW))
    assert (body["headers"], body["content_type"]) == ({"url": "x"}, "text/plain")


# Values that JSON has no form for


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"\xff", "/w=="),
        (bytearray(b"ab"), "YWI="),
        (datetime(2026, 11, 21, 9, 0, tzinfo=UTC), "2026-11-21T09:00:00+00:00"),
        (Decimal("12.50"), "12.50"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1.5, 1.5),
        (None, None),
        (True, True),
        ([b"\xff", {"a": Decimal(1)}], ["/w==", {"a": "1"}]),
    ],
)
def test_headers_of_foreign_producers_are_told_in_forms_that_json_has(value: object, form: object) -> None:
    body = tell(fact.accepted(replace(NOTIFICATION, extra={"x-mine": value}), TIER, NOW))
    assert body["headers"]["x-mine"] == form
    unread = tell(fact.poisoned(wire.Message(b"", {"x-mine": value}), TIER, "why", NOW))
    assert unread["headers"]["x-mine"] == form


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    ),
    st.text(),
    st.binary(),
)
def test_every_fact_is_json_whatever_producers_and_merchants_sent(
    headers: dict[str, object], detail: str, body: bytes
) -> None:
    outcome = replace(FAILED, detail=detail, answer=body)
    unread = fact.poisoned(wire.Message(body, headers), TIER, detail, NOW)
    read = fact.attempted(
        replace(NOTIFICATION, extra=headers, payload=body), TIER, outcome, NEXT, started_ms=NOW, now_ms=NOW
    )
    assert [one["kind"] for one in told(unread, read)] == ["poisoned", "attempted"]
