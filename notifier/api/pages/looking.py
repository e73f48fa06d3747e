"""Reading the ledger and the registry for the pages."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notifier.api.live import PROMPT
from notifier.api.pages import causes
from notifier.api.pages.causes import Cause
from notifier.api.parts import Parts
from notifier.api.resting import rest_of
from notifier.domain.merchant import Standing
from notifier.domain.rest import overflows, rests
from notifier.errors import ChildFailed, DatabaseUnavailable
from notifier.ledger import merchants, notifications
from notifier.ledger.flow import failing
from notifier.ledger.merchants import Row
from notifier.ledger.notifications import Filter
from notifier.registry import form

#: Statuses that end without delivery, or wait for somebody.
UNDELIVERED = ("held", "stopped", "exhausted", "poisoned")
#: Groups of undelivered notifications that are explained on one page; the newest.
MOST_GROUPS = 60
#: Seconds that a count in the bar serves.
FRESH = 5.0
#: Attempts that must have failed before what is still on its ladder is worth a word.
OFTEN = 3
#: Seconds that the sample of a group serves, and how many are remembered.
SAMPLED, _MOST_SAMPLES = 10.0, 500
#: Seconds for a notification's first fact to reach the ledger, and between two looks.
_ON_ITS_WAY, _LOOK = 3.0, 0.05
#: Where nobody answered: `connection refused by 127.0.0.1:9`.
_REFUSED_BY = re.compile(r" by (\S+:[0-9]+)$")
#: Pages of the desired state that are looked through for blocks.
_MOST_PAGES = 50


class Counts:
    """How many are undelivered, for the bar of every page."""

    def __init__(self) -> None:
        self._value: int | None = None
        self._read_at = -FRESH

    async def undelivered(self, parts: Parts) -> int | None:
        """At most some seconds old; None while the ledger does not tell."""
        if time.monotonic() - self._read_at >= FRESH:
            self._read_at = time.monotonic()
            try:
                found = await notifications.totals(parts.database)
                self._value = sum(found.get(status, 0) for status in UNDELIVERED)
            except DatabaseUnavailable:
                self._value = None
        return self._value


class Samples:
    """What the newest notification of a group tells beyond the group: remembered for some seconds, since it costs."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[tuple[str, str], ...], tuple[float, dict[str, Any]]] = OrderedDict()

    async def of(self, parts: Parts, group: Mapping[str, Any]) -> dict[str, Any]:
        """Its last status, the sentence and the words of the other side, and whether it brings its own address.

        Raises DatabaseUnavailable.
        """
        selection = causes.selection_of(group)
        key = tuple(sorted(selection.items()))
        asked_at, found = self._found.get(key, (-SAMPLED, {}))
        if time.monotonic() - asked_at >= SAMPLED:
            found = await _sample(parts, selection)
            self._found[key] = time.monotonic(), found
            self._found.move_to_end(key)
            while len(self._found) > _MOST_SAMPLES:
                self._found.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True)
class Undelivered:
    """causes: of the youngest troubles, what needs somebody first. groups, merchants: of all of it. count: what fails
    but is still on its ladder is no part of it."""

    causes: list[Cause]
    groups: int
    count: int
    merchants: frozenset[str]


async def undelivered(
    parts: Parts, samples: Samples, most: int = MOST_GROUPS, merchant: str | None = None
) -> Undelivered:
    """Why it is, to everybody or to one merchant: one cause per merchant and reason, at most so many.

    Raises DatabaseUnavailable, InvalidInput.
    """
    wanted = Filter.parse({"merchant": merchant})
    groups = [dict(group) for group in await notifications.undelivered(parts.database, wanted)]
    climbing = await failing(parts.database, OFTEN, merchant)
    count = sum(group["count"] for group in groups)
    groups += climbing
    groups.sort(key=lambda group: (group["oldest"], group["merchant"]), reverse=True)  # the trouble that began last
    first = groups[:most]
    known = {name: await registered(parts, name) for name in dict.fromkeys(group["merchant"] for group in first)}
    await _blocked_here(parts, first, known)
    rests = {name: rest_of(parts, name) for name in known}
    found = [
        causes.of_group(
            group | await samples.of(parts, group) | {"rest": rests[group["merchant"]]}, known[group["merchant"]]
        )
        for group in first
    ]
    whose = frozenset(group["merchant"] for group in groups)
    return Undelivered(causes.ordered(found), len(groups), count, whose)


async def switched_off(parts: Parts, besides: Sequence[Cause], most: int) -> list[Cause]:
    """Merchants that are blocked or disabled and of whom `besides` does not say so yet, at most so many.

    Raises DatabaseUnavailable.
    """
    told = {cause.merchant for cause in besides}
    found: list[Cause] = []
    for standing in (Standing.BLOCKED, Standing.DISABLED):
        rows = await merchants.page(parts.database, limit=most + len(told), standing=standing, now_ms=parts.now_ms)
        shown = [_shown(parts, row) for row in rows if row.id not in told]
        found += [cause for it in shown if it is not None and (cause := causes.of_standing(it)) is not None]
    return found[:most]


def held_back(parts: Parts, besides: Sequence[Cause], most: int) -> list[Cause]:
    """Merchants that are given a rest, or have no room, and of whom `besides` does not say so yet; at most so many."""
    told = {(cause.merchant, cause.selection.get("reason")) for cause in besides}
    state = parts.line.state
    found = [causes.of_rest(rest) for rest in rests(state.items()) if (rest.merchant, "breaker-open") not in told]
    lanes = {lane.merchant: lane for lane in overflows(state.items()) if (lane.merchant, "no-room") not in told}
    return [*found, *(causes.of_overflow(lane) for lane in lanes.values())][:most]


async def cause_of(parts: Parts, shown: Mapping[str, Any]) -> Cause | None:
    """Why one notification is undelivered; None if it is not. Raises DatabaseUnavailable."""
    if shown["status"] not in UNDELIVERED:
        return None
    group = {**shown, "own_url": shown["url"] is not None} | _last_attempt(shown)
    group["rest"] = rest_of(parts, group["merchant"])
    merchant = {group["merchant"]: await registered(parts, group["merchant"])}
    await _blocked_here(parts, [group], merchant)
    return causes.of_one(group, merchant[group["merchant"]])


async def registered(parts: Parts, merchant: str) -> dict[str, Any] | None:
    """A merchant as the registry shows it; None if it does not know it. Raises DatabaseUnavailable."""
    row = await merchants.get(parts.database, merchant)
    return None if row is None else _shown(parts, row)


async def arrived(parts: Parts, notification: str) -> None:
    """Wait until the ledger knows what was just handed in, as a rule a few hundredths of a second; not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ON_ITS_WAY):
            while await notifications.show(parts.database, notification) is None:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(_LOOK)


async def blocks_here(parts: Parts) -> dict[str, dict[str, Any]]:
    """Merchants that an operator blocked on this machine alone, with the desired state's entry. Raises ChildFailed."""
    found: dict[str, dict[str, Any]] = {}
    after, complete, pages = 0, False, 0
    while not complete and pages < _MOST_PAGES:
        answer = await parts.line.control("state", {"after": after}, timeout=PROMPT)
        entries = [entry for entry in answer["entries"] if entry["key"].startswith("block/") and entry["value"]]
        found |= {entry["key"].removeprefix("block/"): entry for entry in entries}
        after, complete, pages = answer["version"], answer["complete"], pages + 1
    return found


def _shown(parts: Parts, row: Row) -> dict[str, Any] | None:
    if row.body is None:
        return None
    return form.shown(form.read(row.id, row.body, row.version, row.changed_at), parts.now_ms)


async def _blocked_here(
    parts: Parts, groups: Sequence[Mapping[str, Any]], known: dict[str, dict[str, Any] | None]
) -> None:
    """Show as blocked what this machine's operators blocked, since the registry does not know of it."""
    held = {group["merchant"] for group in groups if group.get("reason") == "blocked"}
    doubtful = {name for name in held if (known[name] or {}).get("standing") != "blocked"}
    if not doubtful:
        return
    try:
        blocks = await blocks_here(parts)
    except ChildFailed:
        return
    for name in doubtful & blocks.keys():
        entry = blocks[name]
        known[name] = (known[name] or {"id": name, "url": None, "added": False}) | {
            "standing": "blocked", "why": entry["why"], "since": entry["since"], "until": entry["until"],
            "who": entry["who"].partition(" uid=")[0],
        }  # fmt: skip


async def _sample(parts: Parts, selection: Mapping[str, str]) -> dict[str, Any]:
    page = await notifications.list_notifications(parts.database, Filter.parse(selection), None, 1)
    shown = await notifications.show(parts.database, page.items[0]["id"]) if page.items else None
    if shown is None:
        return {}
    told = {name: shown[name] for name in ("detail", "last_status", "last_error", "reason", "url")}
    return told | {"own_url": shown["url"] is not None} | _last_attempt(shown)


def _last_attempt(shown: Mapping[str, Any]) -> dict[str, Any]:
    """When it was made, to which address, and what the merchant's server said to it."""
    if not shown["attempt_log"]:
        return {"answer": "", "tried_at": None, "address": None}
    last = shown["attempt_log"][-1]
    refused = _REFUSED_BY.search(last["detail"] or "")
    address = last["address"] or (refused and refused[1])
    return {"answer": str(last["answer"] or ""), "tried_at": last["started"], "address": address}
