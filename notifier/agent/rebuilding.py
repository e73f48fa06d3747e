"""A notification as it can be published again, from what the ledger keeps of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from notifier.domain import wire
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.tier import Tier, covering
from notifier.domain.wire import Message
from notifier.errors import Conflict, InvalidTier, UnreadableMessage
from notifier.ledger.holding import Stored


def released(stored: Stored, configured: Collection[Tier], now_ms: int) -> tuple[Notification, Tier]:
    """As it goes on where it was held: the same step and attempt, in a run of its own, due now in that tier.

    Raises Conflict for what cannot be sent again.
    """
    was = _notification(stored)
    _check_run(stored, stored.run + 1)
    step, attempt = was.step, was.attempt
    if was.run != stored.run and stored.step is not None:  # the headers are of an earlier run
        step, attempt = stored.step, stored.step + 1
    going_on = replace(was, step=step, attempt=attempt, run=stored.run + 1, due_at=now_ms, released=now_ms)
    return going_on, _tier(stored.tier, configured)


def replayed(
    stored: Stored, default: Ladder, configured: Collection[Tier], run: int, now_ms: int
) -> tuple[Notification, Tier]:
    """As it starts once more, at the first step of its ladder, in that run. default: where it names no ladder.

    Raises Conflict for what cannot be sent again.
    """
    was = _notification(stored)
    _check_run(stored, run)
    ladder = was.ladder or default
    tier = covering(configured, ladder[0].seconds)
    due_at = now_ms + tier.milliseconds
    again = replace(was, ladder=ladder, step=0, attempt=1, run=run, due_at=due_at, released=None)
    return again, tier


def _notification(stored: Stored) -> Notification:
    if stored.payload is None:
        raise Conflict(
            f"the payload of {stored.id} is not kept any more (setting retention.payloads), or never came: "
            "enqueue it again"
        )
    headers: Mapping[str, Any] = _headers(stored.headers)
    own = {
        "notification": stored.id,
        "merchant": stored.merchant,
        "url": stored.url,
        "ladder": stored.ladder,
        "reference": stored.reference,
    }
    whole = {**headers, **{name: value for name, value in own.items() if value is not None}}
    try:
        return wire.read(Message(stored.payload, whole, stored.content_type))
    except UnreadableMessage as error:
        raise Conflict(f"{stored.id} cannot be sent again: {error}") from None


def _check_run(stored: Stored, run: int) -> None:
    if run > wire.MOST_RUN:
        raise Conflict(f"{stored.id} cannot be sent again: run {run} is beyond {wire.MOST_RUN}; enqueue it again")


def _headers(text: str | None) -> Mapping[str, Any]:
    try:
        told = json.loads(text) if text else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _tier(name: str | None, configured: Collection[Tier]) -> Tier:
    try:
        return covering(configured, Tier.parse(name or "0s").seconds)
    except InvalidTier:
        return covering(configured, 0)
