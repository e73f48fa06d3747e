"""Happenings for the tests of operator events, and the examples of docs/operator-events.md that are made of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from notifier.agent import happenings
from notifier.domain.operations import Event, Happening, told
from notifier.domain.registration import Off, Registration
from notifier.domain.signature import Secret
from notifier.sections import Operations

#: 2026-11-21T10:00:00Z, Unix milliseconds.
NOW_MS = 1_795_255_200_000
URL = "https://ops.example/notifier"
PAGE = Path(__file__).parents[2] / "docs/operator-events.md"


def slot(name: str = "tier:5s", **more: Any) -> dict[str, Any]:
    """As the master's status has it."""
    return {
        "slot": name, "groups": ["tier", name] if name.startswith("tier") else [name], "state": "ready", "epoch": 1,
        "started": "2026-11-21T09:59:30.000Z", "uptime": 30.0, "restarts": 0, "reason": None, "degraded": False,
        "statistics": {"late_p99_ms": 3.0},
    } | more  # fmt: skip


def status(*slots: dict[str, Any]) -> dict[str, Any]:
    return {"since": "2026-11-21T08:00:00.000Z", "slots": list(slots)}


def breaker(merchant: str = "shop-7", **more: Any) -> Happening:
    value = {
        "state": "open", "since": NOW_MS - 1000, "until": NOW_MS + 29_000, "at": NOW_MS, "failed": 19, "of": 20,
        "pause": 30.0, "tier": "1s", "slot": "tier:1s",
    }  # fmt: skip
    found = happenings.of_breaker(f"breaker/{merchant}", value | more)
    assert found is not None
    return found


def exhausted(number: int = 1, merchant: str = "shop-7") -> Happening:
    return happenings.of_fact(
        {
            "id": f"fact-{number}", "notification": f"ntf_{number}", "merchant": merchant, "reason": "HTTP 500",
            "at": NOW_MS, "tier": "30s", "headers": {"reference": f"order-{number}"},
        }
    )  # fmt: skip


def disabled(merchant: str = "shop-7", since: int = NOW_MS) -> Happening:
    off = Off("answered 410 Gone", since, who="notifier")
    url, secret = f"https://{merchant}.example/hooks", Secret.fresh()
    found = happenings.of_merchant(Registration(merchant, url=url, secret=secret, disabled=off))
    assert found is not None
    return found


def lasting(*slots: dict[str, Any]) -> Happening:
    """The trouble of these slots, as it is told."""
    (trouble,) = happenings.troubles(status(*slots), {}, Operations(), NOW_MS)
    facts = {**trouble.facts, "since": "2026-11-21T09:59:00.000Z"}
    return Happening(trouble.event, NOW_MS - 60_000, trouble.subject, "vm-1 1", trouble.sentence, facts)


#: Each event of the page: what happened, and how many of a kind it counts.
EXAMPLES: dict[str, tuple[list[Happening], int]] = {
    "merchant.disabled": ([disabled()], 1),
    "breaker.open": ([breaker()], 1),
    "notification.exhausted": ([exhausted(number) for number in (1, 2)], 1204),
    "tier.late": ([lasting(slot(statistics={"late_p99_ms": 42_300.0}))], 1),
    "slot.degraded": ([lasting(slot(degraded=True, restarts=6, reason="exit code 1"))], 1),
}


def sent(event: str) -> dict[str, Any]:
    """What is sent of it."""
    found, count = EXAMPLES[event]
    body: dict[str, Any] = json.loads(told(found, count, "vm-1", URL, NOW_MS).payload)
    return body


def documented() -> dict[str, dict[str, Any]]:
    """The examples on the page by their type."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return {body["type"]: body for body in map(json.loads, blocks)}


assert set(EXAMPLES) == set(Event)
