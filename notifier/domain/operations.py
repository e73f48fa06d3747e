"""What operators are told of by webhook: the events, and the one form that they have. Pure.

They travel as ordinary notifications to a merchant of the service's own, which nobody else can address and of which
nothing is ever an event itself: so telling never makes more to tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from notifier.domain.notification import OPERATIONS, Notification


class Event(StrEnum):
    """Of what an operator can be told."""

    MERCHANT_DISABLED = "merchant.disabled"
    BREAKER_OPEN = "breaker.open"
    NOTIFICATION_EXHAUSTED = "notification.exhausted"
    TIER_LATE = "tier.late"
    SLOT_DEGRADED = "slot.degraded"


#: What several of a kind are called.
_SEVERAL = {
    Event.MERCHANT_DISABLED: "merchants were disabled",
    Event.BREAKER_OPEN: "merchants fail and are given a rest",
    Event.NOTIFICATION_EXHAUSTED: "notifications used up their ladders and are not tried again",
    Event.TIER_LATE: "tiers are late",
    Event.SLOT_DEGRADED: "processes keep ending, or hung",
}


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that an operator wants to know. at: Unix milliseconds. facts: what programs read, JSON.

    subject: of whom or what, so that the same thing is not told again and again. identity: which time of it, so that it
    is the same event whoever tells it; both are text of any length.
    """

    event: Event
    at: int
    subject: str
    identity: str
    sentence: str
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Of its notification, when it is told alone."""
        return _id(self.event, self.subject, self.identity)


def told(happenings: Sequence[Happening], count: int, machine: str, url: str, now_ms: int) -> Notification:
    """The notification about one happening, or about `count` of a kind, of which `happenings` are the first.

    machine: who tells it.
    """
    first = happenings[0]
    alone = count == 1
    name = first.id if alone else _id(first.event, machine, first.id, str(count), str(now_ms))
    body = {
        "type": str(first.event),
        "id": name,
        "time": _moment(first.at if alone else now_ms),
        "data": {
            "sentence": first.sentence if alone else f"{count:,} {_SEVERAL[first.event]}; {_some(happenings, count)}",
            "machine": machine,
            "count": count,
            "examples": [{"at": _moment(each.at), **each.facts} for each in happenings],
        },
    }
    payload = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return Notification(id=name, merchant=OPERATIONS, payload=payload, url=url, reference=str(first.event))


def _some(happenings: Sequence[Happening], count: int) -> str:
    return f"{'the first' if count > len(happenings) else 'one'}: {happenings[0].sentence}"


def _id(*parts: str) -> str:
    """Of 128 bits, the same for the same parts."""
    return f"ops_{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


def _moment(unix_ms: int) -> str:
    then = datetime.fromtimestamp(unix_ms / 1000, UTC)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")
