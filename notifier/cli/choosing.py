"""The options that choose notifications of the ledger, as the filter that it reads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from notifier import logs
from notifier.cli import ctl_spans
from notifier.errors import InvalidInput

_STATUSES = "accepted, attempted, held, stopped, exhausted, completed, poisoned"

Status = Annotated[list[str] | None, typer.Option("--status", metavar="STATUS", help=f"{_STATUSES}. Repeat.")]
OfMerchant = Annotated[str | None, typer.Option("--merchant", metavar="MERCHANT", help="Of one merchant.")]
Reference = Annotated[str | None, typer.Option("--reference", metavar="TEXT", help="With this reference.")]
OfTier = Annotated[str | None, typer.Option("--tier", metavar="TIER", help="That wait in this tier, or ended there.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="Accepted from then on: 2026-11-21T10:00Z, or 2h ago.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Accepted before then.")]
Error = Annotated[
    str | None, typer.Option("--error", metavar="CLASS", help="Last failed so: timeout, connect, status …")
]
WithReason = Annotated[
    str | None, typer.Option("--reason", metavar="REASON", help="Held or stopped for this: disabled, blocked …")
]


def chosen(
    status: Sequence[str] | None = None,
    merchant: str | None = None,
    reference: str | None = None,
    tier: str | None = None,
    since: str | None = None,
    until: str | None = None,
    error: str | None = None,
    reason: str | None = None,
) -> dict[str, Any]:
    """Only what was said. Whether it is possible is judged by the ledger."""
    said: Mapping[str, Any] = {
        "status": list(status) if status else None,
        "merchant": merchant,
        "reference": reference,
        "tier": tier,
        "since": _moment(since, "--since"),
        "until": _moment(until, "--until"),
        "error": error,
        "reason": reason,
    }
    return {name: value for name, value in said.items() if value is not None}


def _moment(text: str | None, option: str) -> str | None:
    """A moment, or a span before now, as ISO 8601 in UTC. One without a zone is UTC."""
    if text is None:
        return None
    try:
        return logs.moment(int((time.time() - ctl_spans.parse(text.removesuffix(" ago"))) * 1000))
    except InvalidInput:
        pass
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return logs.moment(int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r:.40} is neither a moment such as 2026-11-21T10:00Z nor a span such as 2h", param_hint=option
        ) from None
