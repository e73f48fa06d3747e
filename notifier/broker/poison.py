"""The poison queue: what could not be read, or kills its consumer. A fault of ours or a producer's, no merchant's.

A message is kept as it came, with three headers that say why, where from and when; they come off when it is requeued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from notifier.broker.publisher import fresh_message_id
from notifier.broker.topology import Topology, Way
from notifier.domain import wire
from notifier.domain.tier import Tier, covering
from notifier.domain.wire import Message
from notifier.errors import InvalidTier, UnreadableMessage

REASON, TIER, AT = "notifier-poison-reason", "notifier-poison-tier", "notifier-poison-at"
#: On what holds facts for the ledger, no notification.
FACTS = "notifier-poison-facts"
_OURS = (REASON, TIER, AT, FACTS)


def marked(message: Message, tier: Tier, reason: str, now_ms: int) -> Message:
    """The message as it stands in the poison queue. Its id, where it has one, survives the new message_id."""
    return replace(
        message,
        headers={**wire.portable(message.headers), REASON: reason[:1000], TIER: tier.name, AT: now_ms},
        message_id=fresh_message_id(),
        correlation_id=wire.fallback_id(message) or message.correlation_id,
    )


def marked_facts(message: Message, reason: str, now_ms: int) -> Message:
    """Facts that the ledger cannot store, as they stand in the poison queue."""
    headers = {**wire.portable(message.headers), REASON: reason[:1000], AT: now_ms, FACTS: True}
    return replace(message, headers=headers, message_id=fresh_message_id())


def unmarked(message: Message) -> Message:
    """The message as it was, to be worked again."""
    headers = {name: value for name, value in wire.portable(message.headers).items() if name not in _OURS}
    return replace(message, headers=headers, message_id=fresh_message_id())


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A message of the poison queue, and what is known of how it came there.

    id: what people name it by. since: UTC, None when nobody wrote it down. tier: where it was due, None likewise.
    facts: it holds facts for the ledger, no notification.
    """

    message: Message
    id: str
    reason: str
    since: datetime | None
    tier: Tier | None
    facts: bool = False

    def named_by(self, name: str) -> bool:
        """Whether somebody who writes this name means this message."""
        return name in (self.id, self.message.message_id)

    def way_back(self, topology: Topology) -> Way:
        """Where it is worked again, at once: the work queue of its tier, or of the tier that covers it by now."""
        if self.facts:
            return Way("", topology.ledger)
        tier = covering(topology.tiers, self.tier.seconds if self.tier is not None else 0)
        return Way(topology.work, tier.name)

    def to_be_worked(self, now_ms: int) -> Message:
        """The message as it was, due now: the time it spent here is no lateness of ours."""
        message = unmarked(self.message)
        if "due-at" not in message.headers:
            return message
        return replace(message, headers={**message.headers, "due-at": now_ms})


def read(message: Message, topology: Topology) -> Poisoned:
    """What stands in a message of the poison queue, whoever put it there: notifier, or the broker itself."""
    headers = message.headers
    if REASON in headers:
        reason, tier, since = str(headers[REASON]), _tier(headers.get(TIER)), _moment(headers.get(AT))
        return Poisoned(message, _id(message), reason, since, tier, facts=bool(headers.get(FACTS)))
    death = _last_death(headers, topology)
    queue = str(death.get("queue", ""))
    return Poisoned(
        message,
        _id(message),
        _reason(death),
        _moment(death.get("time")),
        _tier(queue.removeprefix(f"{topology.work}.").partition(".")[0]),
        facts=queue == topology.ledger,
    )


def _id(message: Message) -> str:
    try:
        found = wire.identity(message)
    except UnreadableMessage:
        found = wire.fallback_id(message)
    if found is not None:
        return found
    return message.message_id or f"body-{hashlib.sha256(message.body).hexdigest()[:16]}"


def _last_death(headers: Mapping[str, object], topology: Topology) -> Mapping[str, object]:
    """Where the broker took it from when it gave up. Its waits are deaths as well (expired), and older."""
    deaths = headers.get("x-death")
    for death in deaths if isinstance(deaths, list) else []:
        if isinstance(death, Mapping):
            queue = str(death.get("queue", ""))
            if queue == topology.ledger or queue.startswith(f"{topology.work}."):
                return death
    return {}


def _reason(death: Mapping[str, object]) -> str:
    match death.get("reason"):
        case None:
            return "put here by other means: neither notifier nor RabbitMQ says why"
        case "delivery_limit":
            return (
                "RabbitMQ gave up on it: at every delivery its process died or lost its connection (x-delivery-limit)"
            )
        case other:
            return f"dead-lettered by RabbitMQ: {other}"


def _tier(name: object) -> Tier | None:
    try:
        return Tier.parse(name) if isinstance(name, str) else None
    except InvalidTier:
        return None


def _moment(stated: object) -> datetime | None:
    """Of our own mark (Unix milliseconds) or the broker's (a moment in whole seconds)."""
    try:
        if isinstance(stated, datetime):
            return stated.astimezone(UTC)
        return datetime.fromtimestamp(stated / 1000, UTC) if isinstance(stated, int) else None
    except (ValueError, OverflowError, OSError):
        return None
