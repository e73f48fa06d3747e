"""Reading the ledger and the registry for the pages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from notifier.api.live import PROMPT
from notifier.api.pages import causes
from notifier.api.pages.causes import Cause
from notifier.api.parts import Parts
from notifier.errors import ChildFailed, DatabaseUnavailable
from notifier.ledger import merchants, notifications
from notifier.ledger.notifications import Filter
from notifier.registry import form

#: Statuses that end without delivery, or wait for somebody.
UNDELIVERED = ("held", "stopped", "exhausted", "poisoned")
#: Groups of undelivered notifications that are explained on one page; the newest.
MOST_GROUPS = 60
#: Seconds that a count in the bar serves.
FRESH = 3.0
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


async def causes_of(parts: Parts, **wanted: str) -> list[Cause]:
    """Why what fits the filter is undelivered: one cause per merchant and reason. What needs somebody comes first.

    Raises DatabaseUnavailable, InvalidInput.
    """
    groups = await groups_of(parts, **wanted)
    known = {name: await registered(parts, name) for name in dict.fromkeys(group["merchant"] for group in groups)}
    await _blocked_here(parts, groups, known)
    found = [causes.of_group(await _with_sample(parts, group), known[group["merchant"]]) for group in groups]
    return causes.newest_first(found)


async def groups_of(parts: Parts, **wanted: str) -> list[dict[str, Any]]:
    """The newest groups of what is undelivered. Raises DatabaseUnavailable, InvalidInput."""
    groups = [dict(group) for group in await notifications.undelivered(parts.database, Filter.parse(wanted))]
    groups.sort(key=lambda group: group["newest"], reverse=True)
    return groups[:MOST_GROUPS]


async def cause_of(parts: Parts, shown: Mapping[str, Any]) -> Cause | None:
    """Why one notification is undelivered; None if it is not. Raises DatabaseUnavailable."""
    if shown["status"] not in UNDELIVERED:
        return None
    group = {**shown, "count": 1, "newest": None, "own_url": shown.get("url") is not None}
    merchant = {group["merchant"]: await registered(parts, group["merchant"])}
    await _blocked_here(parts, [group], merchant)
    return causes.of_one(group, merchant[group["merchant"]])


async def registered(parts: Parts, merchant: str) -> dict[str, Any] | None:
    """A merchant as the registry shows it; None if it does not know it. Raises DatabaseUnavailable."""
    row = await merchants.get(parts.database, merchant)
    if row is None or row.body is None:
        return None
    return form.shown(form.read(row.id, row.body, row.version, row.changed_at), parts.now_ms)


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
        }  # fmt: skip


async def _with_sample(parts: Parts, group: dict[str, Any]) -> dict[str, Any]:
    """A group with what its newest notification tells beyond it: the other side's words, and whose address it is."""
    page = await notifications.list_notifications(parts.database, Filter.parse(causes.selection_of(group)), None, 1)
    for newest in page.items:
        more = ("detail", "last_status", "last_error", "reason")
        known = {name: newest.get(name) for name in more if group.get(name) is None}
        return {**group, **known, "own_url": newest.get("url") is not None}
    return group
