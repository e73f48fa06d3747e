"""How the service is now, in one document: what the dashboard shows and GET /v1/tiers answers.

Master, broker and database are asked at the same time; what one of them does not tell is None, and `problems` says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from notifier.api.depths import Reading
from notifier.api.parts import Parts
from notifier.api.resting import resting
from notifier.errors import NotifierError
from notifier.ledger import notifications
from notifier.logs import moment

#: Seconds for the master's answer.
PROMPT = 5.0
#: Pages of the desired state that are read at most, for the pauses in it.
MOST_PAGES = 50

T = TypeVar("T")


async def live(parts: Parts) -> dict[str, Any]:
    """What it is at this moment. Costs the broker a look at each queue, at most once a second."""
    problems: list[str] = []
    status, pauses, depths, stand = await asyncio.gather(
        _or_none(parts.line.control("status", timeout=PROMPT), problems),
        _or_none(pauses_of(parts), problems),
        _or_none(parts.depths.read(), problems),
        _or_none(_of_ledger(parts), problems),
    )
    slots = [] if status is None else list(status["slots"])
    return {
        "at": moment(parts.now_ms),
        "state": None if status is None else status["state"],
        "tiers": [_tier(tier.name, slots, pauses or [], depths, stand, parts.now_ms) for tier in parts.settings.tiers],
        "slots": slots,
        **resting(parts.line.state),
        "facts_waiting": None if depths is None else depths.facts,
        "poison": None if depths is None else depths.poison,
        "totals": None if stand is None else dict(stand["totals"]),
        "problems": list(dict.fromkeys(problems)),
    }


async def pauses_of(parts: Parts) -> list[dict[str, Any]]:
    """The entries of the desired state that pause something. Raises ChildFailed."""
    found: list[dict[str, Any]] = []
    after, complete, pages = 0, False, 0
    while not complete and pages < MOST_PAGES:
        answer = await parts.line.control("state", {"after": after}, timeout=PROMPT)
        found += [entry for entry in answer["entries"] if entry["key"].startswith("pause/")]
        after, complete, pages = answer["version"], answer["complete"], pages + 1
    return found


async def _of_ledger(parts: Parts) -> dict[str, Any]:
    database = parts.database
    heads = await notifications.tiers(database)
    return {"heads": heads, "totals": await parts.totals.read()}


async def _or_none(asked: Coroutine[Any, Any, T], problems: list[str]) -> T | None:
    try:
        return await asked
    except NotifierError as error:
        problems.append(str(error))
        return None


def _tier(
    name: str,
    slots: Sequence[Mapping[str, Any]],
    pauses: Sequence[Mapping[str, Any]],
    depths: Reading | None,
    stand: Mapping[str, Any] | None,
    now_ms: int,
) -> dict[str, Any]:
    own = [slot for slot in slots if f"tier:{name}" in slot["groups"]]
    figures = [slot["statistics"] for slot in own]
    pause = _pause(own, pauses)
    head = None if stand is None else stand["heads"].get(name)
    return {
        "tier": name,
        "waiting": None if depths is None else depths.waiting.get(name, 0),
        "due": None if depths is None else depths.due.get(name, 0),
        "in_flight": _sum(figures, "in_flight"),
        "head_late_ms": None if stand is None else 0 if head is None else max(0, now_ms - head),
        "attempts_per_s": _sum(figures, "rate"),
        "delivered_per_s": _sum(figures, "completed_rate"),
        "failed_per_s": _sum(figures, "failed_rate"),
        "late_p50_ms": _most(figures, "late_p50_ms"),
        "late_p99_ms": _most(figures, "late_p99_ms"),
        "paused": bool(own) and all(slot["state"] == "paused" for slot in own),
        "pause": pause,
        "paused_by": None if pause is None else pause["who"],
        "paused_until": None if pause is None else pause["until"],
        "paused_why": None if pause is None else pause["why"],
        "slots": [{"slot": slot["slot"], "state": slot["state"], "restarts": slot["restarts"]} for slot in own],
    }


def _pause(own: Sequence[Mapping[str, Any]], pauses: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The newest pause that concerns one of these slots."""
    targets = {"all", *(name for slot in own for name in (slot["slot"], *slot["groups"]))}
    entries = [entry for entry in pauses if entry["key"].removeprefix("pause/") in targets]
    if not entries:
        return None
    entry = max(entries, key=lambda entry: entry["version"])
    value = entry["value"] if isinstance(entry["value"], Mapping) else {}
    return {
        "target": entry["key"].removeprefix("pause/"),
        "who": value.get("who") or entry["who"],
        "why": entry["why"],
        "since": entry["since"],
        "until": entry["until"],
    }


def _sum(figures: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [figure[name] for figure in figures if isinstance(figure.get(name), int | float)]
    return round(sum(known), 1) if known else None


def _most(figures: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [figure[name] for figure in figures if isinstance(figure.get(name), int | float)]
    return max(known, default=None)
