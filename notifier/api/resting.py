"""Merchants that are held back just now on this machine, as GET /v1/tiers and /metrics tell it.

Every process has a copy of the desired state, so this asks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from notifier.api.parts import Parts
from notifier.domain.rest import BREAKER, OVERFLOW, Overflow, Rest, overflows, rests
from notifier.logs import moment

#: Merchants that are told by name; there may be thousands.
MOST = 200


def resting(state: Mapping[str, Any]) -> dict[str, Any]:
    """breakers, overflows: those that began last, at most so many; held_back: how many there are of all."""
    breakers, lanes = rests(state.items()), overflows(state.items())
    return {
        "breakers": [_breaker(rest) for rest in breakers[:MOST]],
        "overflows": [_overflow(lane) for lane in lanes[:MOST]],
        "held_back": {
            "open": sum(not rest.probing for rest in breakers),
            "half-open": sum(rest.probing for rest in breakers),
            "overflows": dict(Counter(lane.tier for lane in lanes)),
        },
    }


def rest_of(parts: Parts, merchant: str) -> Rest | None:
    """None when its breaker is closed here."""
    key = f"{BREAKER}{merchant}"
    return Rest.read(key, parts.line.state.get(key))


def overflows_of(parts: Parts, merchant: str) -> list[Overflow]:
    """The tiers in which it has no room here."""
    keys = [f"{OVERFLOW}{tier.name}/{merchant}" for tier in parts.settings.tiers]
    return overflows((key, parts.line.state.get(key)) for key in keys)


def _breaker(rest: Rest) -> dict[str, Any]:
    return {
        "merchant": rest.merchant,
        "state": "half-open" if rest.probing else "open",
        "since": moment(rest.since),
        "until": moment(rest.until),
        "failed": rest.failed,
        "of": rest.of,
        "pause_s": rest.pause,
        "tier": rest.tier,
        "slot": rest.slot,
    }


def _overflow(lane: Overflow) -> dict[str, Any]:
    return {"merchant": lane.merchant, "tier": lane.tier, "since": moment(lane.since)}
