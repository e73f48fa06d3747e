"""What tier processes and producers tell the ledger: DESIGN §3, "Facts". A message holds a JSON array of them.

Facts may arrive twice and in any order, so each has its own uuid and inserting is insert-if-absent.
"""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from notifier.domain import wire
from notifier.domain.decision import Complete, Decision, Exhausted, Held, NextTier, Poison, Stopped
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier

VERSION = 1

#: Bytes of a payload from which on an attempt that ends a notification leaves it to the fact of that end, which is told
#: in the same message: RabbitMQ 4 takes 16 MiB, and a payload may have half of that, before base64.
LARGE = 1024 * 1024


class Kind(StrEnum):
    """The kinds of facts, fixed."""

    ACCEPTED = "accepted"
    ATTEMPTED = "attempted"
    COMPLETED = "completed"
    EXHAUSTED = "exhausted"
    HELD = "held"
    STOPPED = "stopped"
    POISONED = "poisoned"
    REPLAYED = "replayed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened. at: Unix milliseconds. body: fields of its kind, JSON values."""

    kind: Kind
    notification: str
    run: int
    at: int
    body: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


def encode(facts: Iterable[Fact]) -> bytes:
    """The body of a message on the ledger queue."""
    return json.dumps(
        [
            {
                "v": VERSION,
                "id": fact.id,
                "kind": fact.kind,
                "notification": fact.notification,
                "run": fact.run,
                "at": fact.at,
                **fact.body,
            }
            for fact in facts
        ],
        separators=(",", ":"),
        default=str,  # a user's own callback may put anything into its outcome
    ).encode()


def accepted(notification: Notification, tier: Tier, now_ms: int) -> Fact:
    """A producer of ours handed it to the broker. Advisory: foreign producers send none."""
    return Fact(Kind.ACCEPTED, notification.id, notification.run, now_ms, {**_whole(notification), "tier": tier.name})


def attempted(
    notification: Notification,
    tier: Tier,
    outcome: Outcome,
    decision: Decision,
    *,
    started_ms: int,
    now_ms: int,
    believed: bool = True,
) -> Fact:
    """One attempt, judged. The first of a run carries payload and headers; not a payload of more than LARGE bytes where
    `concluded` has a fact to go with it, which carries it.

    started_ms: when the callback started, Unix milliseconds. believed: whether the clock can be compared with
    the due moment; else nothing is said of how late it was.
    """
    late = notification.lateness(started_ms) if believed else None
    body: dict[str, object] = {
        "attempt": str(uuid.uuid4()),
        "number": notification.attempt,
        "step": notification.step,
        "tier": tier.name,
        "merchant": notification.merchant,
        "due": notification.due_at,
        "started": started_ms,
        "late_ms": late,
        "duration_ms": round(outcome.duration * 1000, 3),
        "address": outcome.address,
        "sent_headers": dict(outcome.sent_headers),
        "status": outcome.status,
        "error": outcome.error,
        "detail": outcome.detail,
        "answer": base64.b64encode(outcome.answer).decode(),
        "decision": name_of(decision),
    }
    if isinstance(decision, NextTier):
        body["next_tier"] = decision.tier.name
    if notification.attempt == 1 or notification.step == 0:
        body |= _whole(notification)
        if len(notification.payload) > LARGE and not isinstance(decision, NextTier):
            del body["payload"]
    return Fact(Kind.ATTEMPTED, notification.id, notification.run, now_ms, body)


def concluded(notification: Notification, tier: Tier, decision: Decision, now_ms: int) -> Fact | None:
    """The fact of a decision that ends or holds a notification, with payload and headers; None for a next tier."""
    reason: dict[str, object] = {"tier": tier.name}
    match decision:
        case Complete():
            kind = Kind.COMPLETED
        case Exhausted(why):
            kind, reason["reason"] = Kind.EXHAUSTED, why
        case Stopped(why, disable, detail):
            kind, reason["reason"], reason["disable"] = Kind.STOPPED, why, disable
            if detail:
                reason["detail"] = detail
        case Held(why, detail):
            kind, reason["reason"], reason["detail"] = Kind.HELD, why, detail
        case Poison(why):
            kind, reason["reason"] = Kind.POISONED, why
        case NextTier():
            return None
    return Fact(kind, notification.id, notification.run, now_ms, {**_whole(notification), **reason})


def poisoned(message: wire.Message, tier: Tier, reason: str, now_ms: int) -> Fact:
    """A message that could not be read went to the poison queue; identity and run are told as far as it has them."""
    stated = message.headers.get("notification") or message.correlation_id or message.message_id or ""
    return Fact(
        Kind.POISONED,
        str(stated)[:128],
        wire.run_of(message) or 0,
        now_ms,
        {
            "tier": tier.name,
            "reason": reason,
            "content_type": message.content_type,
            "payload": base64.b64encode(message.body).decode(),
            "headers": _as_json(wire.portable(message.headers)),
        },
    )


def name_of(decision: Decision) -> str:
    """The decision's name in facts and log lines: complete, next-tier, exhausted, stopped, held, poison."""
    match decision:
        case NextTier():
            return "next-tier"
        case _:
            return type(decision).__name__.lower()


def _whole(notification: Notification) -> dict[str, object]:
    message = wire.write(notification, "")
    return {
        "merchant": notification.merchant,
        "content_type": notification.content_type,
        "headers": _as_json(message.headers),
        "payload": base64.b64encode(notification.payload).decode(),
    }


def _as_json(value: object) -> object:
    """Header values of foreign producers that JSON has no form for: bytes as base64, moments in ISO 8601, the rest as
    text (decimals, and the numbers that are none).
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case datetime():
            return value.isoformat()
        case list():
            return [_as_json(part) for part in value]
        case Mapping():
            return {str(name): _as_json(part) for name, part in value.items()}
        case _:
            return str(value)
