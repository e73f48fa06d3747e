"""The poison queue: what could not be read, or kills its consumer. A fault of ours or a producer's, no merchant's.

A message is kept as it came, with three headers that say why, where from and when; they come off when it is requeued.
"""

from __future__ import annotations

from dataclasses import replace

from notifier.broker.publisher import fresh_message_id
from notifier.domain import wire
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

REASON, TIER, AT = "notifier-poison-reason", "notifier-poison-tier", "notifier-poison-at"


def marked(message: Message, tier: Tier, reason: str, now_ms: int) -> Message:
    """The message as it stands in the poison queue. Its id, where it has one, survives the new message_id."""
    return replace(
        message,
        headers={**wire.portable(message.headers), REASON: reason[:1000], TIER: tier.name, AT: now_ms},
        message_id=fresh_message_id(),
        correlation_id=wire.fallback_id(message) or message.correlation_id,
    )


def unmarked(message: Message) -> Message:
    """The message as it was, to be worked again."""
    headers = {name: value for name, value in wire.portable(message.headers).items() if name not in (REASON, TIER, AT)}
    return replace(message, headers=headers, message_id=fresh_message_id())
