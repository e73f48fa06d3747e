"""Facts as they stand on the wire, for tests of the ledger: made by the domain, read back from their JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from notifier.domain import fact
from notifier.domain.decision import Complete, Decision, Exhausted, Held, HoldReason, NextTier, Poison, Stopped
from notifier.domain.fact import Fact, Kind
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier

#: 2026-11-21T10:00:00Z, Unix milliseconds.
NOW = 1_795_255_200_000
#: About 300 bytes, as payloads are.
PAYLOAD = json.dumps({"type": "order.paid", "order": "o-4711", "amount": 1999, "note": "x" * 230}).encode()
ONE, THREE = Tier(1), Tier(3)
FAILED = Outcome(
    acknowledged=False,
    status=500,
    error=ErrorClass.STATUS,
    detail="HTTP 500",
    address="192.0.2.7:443",
    answer=b"out of order",
    duration=0.0123,
    sent_headers=(("webhook-id", "ntf_1"), ("content-type", "application/json")),
)
ACKNOWLEDGED = replace(FAILED, acknowledged=True, status=200, error=None, detail="", answer=b"ok")

Told = dict[str, Any]


def notification(name: str = "ntf_1", **fields: Any) -> Notification:
    """At its first step, accepted NOW and due a second later."""
    usual: dict[str, Any] = {
        "merchant": "m1",
        "payload": PAYLOAD,
        "url": "https://m1.example/hook",
        "enqueued_at": NOW,
        "due_at": NOW + 1000,
        "reference": "order-4711",
    }
    return Notification(name, **(usual | fields))


def wire(*facts: Fact) -> list[Told]:
    """The facts of one message."""
    told: list[Told] = json.loads(fact.encode(facts))
    return told


def accepted(of: Notification, at: int = NOW) -> Told:
    (told,) = wire(fact.accepted(of, ONE, at))
    return told


def attempted(
    of: Notification, outcome: Outcome = FAILED, decision: Decision | None = None, at: int = NOW + 1005
) -> Told:
    """By default a failed one, after which it waits for three seconds."""
    decision = decision or (Complete() if outcome.acknowledged else NextTier(THREE, of.step + 1))
    (told,) = wire(fact.attempted(of, ONE, outcome, decision, started_ms=at - 5, now_ms=at))
    return told


def concluded(of: Notification, decision: Decision, at: int = NOW + 1006) -> Told:
    found = fact.concluded(of, ONE, decision, at)
    assert found is not None
    (told,) = wire(found)
    return told


def completed(of: Notification, at: int = NOW + 1006) -> Told:
    return concluded(of, Complete(), at)


def exhausted(of: Notification, at: int = NOW + 1006) -> Told:
    return concluded(of, Exhausted("HTTP 500"), at)


def stopped(of: Notification, *, disable: bool = True, at: int = NOW + 1006) -> Told:
    return concluded(of, Stopped("410 Gone", disable), at)


def held(of: Notification, reason: HoldReason = HoldReason.DISABLED, at: int = NOW + 1006) -> Told:
    return concluded(of, Held(reason, "switched off by hand"), at)


def poisoned(of: Notification, at: int = NOW + 1006) -> Told:
    return concluded(of, Poison("kills its process"), at)


def opened(of: Notification, kind: Kind, run: int, at: int = NOW + 5000) -> Told:
    """It was replayed or released: a run of its own begins."""
    body = {"merchant": of.merchant, "tier": "1s", "step": 0, "due": at + 1000, "who": "ann"}
    (told,) = wire(Fact(kind, of.id, run, at, body))
    return told
