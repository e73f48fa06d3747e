"""What is known of a message on the poison queue: why, since when, where from, and where it goes back to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from notifier.broker import poison
from notifier.broker.topology import Topology, Way
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

TOPOLOGY = Topology("ns", (Tier(0), Tier(5), Tier(60)))
NOW = 1_795_254_495_000
MOMENT = datetime(2026, 11, 21, 9, 48, 15, tzinfo=UTC)


def death(queue: str, reason: str, time: Any = MOMENT) -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "time": time, "count": 1, "exchange": "ns.work", "routing-keys": ["5s"]}


def test_what_notifier_condemned_says_why_since_when_and_where_it_was_due() -> None:
    message = Message(b"{}", {"notification": "ntf_1", "merchant": "m", "step": "x"}, message_id="first")
    found = poison.read(poison.marked(message, Tier(5), "header 'step' must be a number", NOW), TOPOLOGY)
    assert (found.id, found.reason, found.tier) == ("ntf_1", "header 'step' must be a number", Tier(5))
    assert found.since == MOMENT


def test_what_the_broker_gave_up_on_says_so_with_the_tier_of_its_last_work_queue_and_not_of_its_waits() -> None:
    deaths = [death("ns.work.1m", "delivery_limit"), death("ns.wait.1m", "expired"), death("ns.work.5s", "rejected")]
    found = poison.read(Message(b"{}", {"notification": "n", "x-death": deaths}), TOPOLOGY)
    assert (found.tier, found.since) == (Tier(60), MOMENT)
    assert "RabbitMQ gave up on it" in found.reason


@pytest.mark.parametrize(
    ("headers", "tier", "reason"),
    [
        ({}, None, "put here by other means"),
        ({"x-death": []}, None, "put here by other means"),
        ({"x-death": "nonsense"}, None, "put here by other means"),
        ({"x-death": [7, {"queue": 7}]}, None, "put here by other means"),
        ({"x-death": [death("other.queue", "expired")]}, None, "put here by other means"),
        ({"x-death": [death("ns.work.5s", "rejected")]}, Tier(5), "dead-lettered by RabbitMQ: rejected"),
        ({"x-death": [death("ns.work.5s.3", "delivery_limit")]}, Tier(5), "RabbitMQ gave up"),
        ({"x-death": [death("ns.work.soon", "delivery_limit")]}, None, "RabbitMQ gave up"),
        ({poison.REASON: "why", poison.TIER: 7, poison.AT: "then"}, None, "why"),
    ],
)
def test_what_is_not_known_is_left_open(headers: dict[str, Any], tier: Tier | None, reason: str) -> None:
    found = poison.read(Message(b"{}", headers, message_id="m1"), TOPOLOGY)
    assert found.tier == tier
    assert found.reason.startswith(reason)


@pytest.mark.parametrize("moment", [None, "yesterday", 10**40, -(10**30)])
def test_a_moment_that_cannot_be_one_is_unknown(moment: Any) -> None:
    assert poison.read(Message(b"", {poison.REASON: "r", poison.AT: moment}), TOPOLOGY).since is None


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (Message(b"", {"notification": "ntf_1"}, message_id="mid", correlation_id="cid"), "ntf_1"),
        (Message(b"", {"notification": "not an id"}, message_id="mid", correlation_id="cid"), "cid"),
        (Message(b"", {"notification": b"\xff"}, message_id="mid"), "mid"),
        (Message(b"", {}, message_id="mid", correlation_id="not an id"), "mid"),
        (Message(b"", {}, message_id="no id either!"), "no id either!"),
        (Message(b"", {}), "body-e3b0c44298fc1c14"),
    ],
)
def test_a_message_is_named_by_the_best_id_it_has(message: Message, named: str) -> None:
    found = poison.read(message, TOPOLOGY)
    assert found.id == named
    assert found.named_by(named)
    assert not found.named_by("another")


def test_a_message_can_be_named_by_its_message_id_as_well() -> None:
    assert poison.read(Message(b"", {"notification": "n"}, message_id="mid"), TOPOLOGY).named_by("mid")


@pytest.mark.parametrize(
    ("tier", "key"),
    [("5s", "5s"), ("1m", "1m"), ("3s", "5s"), ("30s", "1m"), ("2h", "1m"), (None, "0s")],
)
def test_it_goes_back_to_its_tier_or_to_the_one_that_covers_it(tier: str | None, key: str) -> None:
    found = poison.read(Message(b"", {poison.REASON: "r", poison.TIER: tier}), TOPOLOGY)
    assert found.way_back(TOPOLOGY) == Way("ns.work", key)


def test_facts_that_the_broker_gave_up_on_go_back_to_the_ledger() -> None:
    found = poison.read(Message(b"[]", {"x-death": [death("ns.ledger", "delivery_limit")]}), TOPOLOGY)
    assert found.facts
    assert found.way_back(TOPOLOGY) == Way("", "ns.ledger")


def test_it_goes_back_without_marks_and_deaths_and_is_due_now() -> None:
    headers = {"notification": "n", "merchant": "m", "due-at": 5, "x-tenant": "kept", "x-delay": -5000}
    message = poison.marked(Message(b"body", headers, "text/plain", "first", "cid"), Tier(5), "why", NOW)
    message = Message(message.body, {**message.headers, "x-death": [], "x-delivery-count": 3}, "text/plain", "x", "cid")
    back = poison.read(message, TOPOLOGY).to_be_worked(NOW)
    assert back.headers == {"notification": "n", "merchant": "m", "due-at": NOW, "x-tenant": "kept"}
    assert (back.body, back.content_type, back.correlation_id) == (b"body", "text/plain", "cid")
    assert back.message_id not in (None, "first", "x")


def test_a_message_that_told_no_due_moment_is_given_none() -> None:
    assert "due-at" not in poison.read(Message(b"", {}), TOPOLOGY).to_be_worked(NOW).headers
