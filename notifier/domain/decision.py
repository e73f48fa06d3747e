"""What follows from an outcome: the table of DESIGN §4 as a pure function. Effects happen in `delivery`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant, Standing
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier, covering


class HoldReason(StrEnum):
    """Why a notification waits in the ledger instead of the broker; each reason can end."""

    DISABLED = "disabled"
    BLOCKED = "blocked"
    UNKNOWN_MERCHANT = "unknown-merchant"
    BREAKER_OPEN = "breaker-open"
    NO_ROOM = "no-room"


@dataclass(frozen=True, slots=True)
class Complete:
    """The merchant acknowledged."""


@dataclass(frozen=True, slots=True)
class NextTier:
    """Wait in `tier`, then try again as `step` of the ladder."""

    tier: Tier
    step: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The ladder is used up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The endpoint is gone for good, or the notification was cancelled.

    disable: the merchant's registered endpoint it was that is gone, so switch it off.
    """

    reason: str
    disable: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """No attempt now and no step used: the ledger keeps it until the reason is gone."""

    reason: HoldReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Poison:
    """Not to be worked: a fault of ours or of the producer, never of a merchant."""

    reason: str


Decision = Complete | NextTier | Exhausted | Stopped | Held | Poison

#: Why a notification was stopped that somebody gave up.
CANCELLED = "cancelled"

_WAITS_ARE_HEEDED = (429, 503)  # RFC 6585 §4, RFC 9110 §15.6.4


def admit(
    notification: Notification, merchant: Merchant | None, *, needs_url: bool = True, cancelled: str | None = None
) -> Held | Stopped | None:
    """Whether an attempt may be made at all; None means yes.

    merchant: None when the registry knows none. needs_url: the callback posts somewhere (a user's own may not).
    cancelled: why the notification was given up, None if it was not.
    """
    if cancelled is not None:
        return Stopped(CANCELLED, disable=False, detail=cancelled)
    if merchant is not None and merchant.standing is Standing.DISABLED:
        return Held(HoldReason.DISABLED, merchant.why)
    if merchant is not None and merchant.standing is Standing.BLOCKED:
        return Held(HoldReason.BLOCKED, merchant.why)
    if needs_url and notification.url is None and (merchant is None or merchant.url is None):
        return Held(HoldReason.UNKNOWN_MERCHANT, "neither the notification nor the registry has a url")
    return None


def ladder_of(notification: Notification, merchant: Merchant | None, default: Ladder) -> Ladder:
    """The ladder that counts: the notification's own, else the merchant's, else the default."""
    return notification.ladder or (merchant.ladder if merchant else None) or default


def decide(
    notification: Notification,
    ladder: Ladder,
    outcome: Outcome,
    configured: Collection[Tier],
    registered_url: str | None = None,
) -> Decision:
    """What to do after an attempt.

    configured: all tiers that processes serve, at least one. registered_url: the merchant's, where it has one.
    """
    if outcome.acknowledged:
        return Complete()
    if outcome.gone:
        return Stopped(
            outcome.detail or "410 Gone", disable=notification.url is None or notification.url == registered_url
        )
    step = notification.step + 1
    if step >= len(ladder):
        return Exhausted(outcome.detail or str(outcome.error))
    if outcome.retry_after is not None and (outcome.status is None or outcome.status in _WAITS_ARE_HEEDED):
        return NextTier(covering(configured, outcome.retry_after), step)
    return NextTier(covering(configured, ladder[step].seconds), step)
