"""`notifier ctl status` and `close`: merchants that are given a rest, and those that have no room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from notifier.cli import ctl_spans
from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_fleet import Outcome, conclude
from notifier.cli.ctl_line import Asking, entries
from notifier.cli.ctl_options import Reason
from notifier.cli.ctl_state import Change, pushed
from notifier.cli.options import AsJson
from notifier.domain.notification import check_known_merchant
from notifier.domain.rest import BREAKER, Overflow, Rest, overflows, rests

#: Merchants of each kind that have a line of their own.
SHOWN = 10
#: Whom a breaker concerns.
_TIERS = "tier"


def sentences(found: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """Those that began last, a line each; the others counted. found: the entries of the desired state."""
    pairs = [(entry["key"], entry["value"]) for entry in found]
    breakers, lanes = rests(pairs), overflows(pairs)
    return [
        *(_rest(rest, now) for rest in breakers[:SHOWN]),
        *_others(len(breakers), "merchants are given a rest"),
        *(_overflow(lane, now) for lane in lanes[:SHOWN]),
        *_others(len(lanes), "lanes overflow"),
    ]


def close(
    context: typer.Context,
    merchant: Annotated[str, typer.Argument(metavar="MERCHANT")],
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Close a merchant's circuit breaker by hand: it is called again at once, and what is held for it goes on.

    For when its server is known to be well again and the next probe is minutes away. If it goes on failing the breaker
    opens again by itself. Each machine has its own breakers: with `ctl --fleet close` on all of them.

    Examples:
      notifier ctl close shop-7
      notifier ctl --fleet close shop-7
    """
    check_known_merchant(merchant)
    conclude(context, lambda operator: _close(operator, merchant, reason), as_json)


async def _close(operator: Asking, merchant: str, reason: str | None) -> Outcome:
    key = f"{BREAKER}{merchant}"
    if not any(entry["key"] == key for entry in await entries(operator)):
        return Outcome(f"the breaker of {visible(merchant)} was not open on this machine", [], {"changes": []}, ok=True)
    said = f"the breaker of {visible(merchant)} is closed, it is called again"
    return await pushed(operator, [Change(key, None, _TIERS)], said, None, reason)


def _rest(rest: Rest, now: datetime) -> str:
    name = visible(rest.merchant)
    state = (
        "one attempt is under way, to see whether it answers again"
        if rest.probing
        else f"the next attempt is made {_when(rest.until, now)}"
    )
    return (
        f"{name} is given a rest since {_moment(rest.since, now)}: {rest.failed} of {rest.of} attempts failed; {state}"
        f", what else is due is held until one succeeds. To call it at once: notifier ctl close {name}"
    )


def _overflow(lane: Overflow, now: datetime) -> str:
    return (
        f"{visible(lane.merchant)} has no room in tier {visible(lane.tier)} since {_moment(lane.since, now)}: it is "
        "slow and has much to get; what has no room is held and goes on in order, nobody else waits for it"
    )


def _others(count: int, said: str) -> list[str]:
    return [f"{count - SHOWN} more {said}: notifier ctl status --json"] if count > SHOWN else []


def _when(unix_ms: int, now: datetime) -> str:
    left = unix_ms / 1000 - now.timestamp()
    return f"at {_moment(unix_ms, now)}, in {ctl_spans.spelled(left)}" if left > 0 else "with what is due next"


def _moment(unix_ms: int, now: datetime) -> str:
    return ctl_spans.moment(datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(), now)
