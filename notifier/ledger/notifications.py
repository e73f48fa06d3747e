"""Questions about notifications: lists, one with all that happened to it, and how many there are.

The newest come first. Everything raises DatabaseUnavailable.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, func, select, tuple_

from notifier.errors import InvalidInput
from notifier.ledger import shown
from notifier.ledger.database import Database
from notifier.ledger.fact_rows import clean
from notifier.ledger.filtering import Filter
from notifier.ledger.following import attempts_after, newest_attempt
from notifier.ledger.overview import merchant_rates, tiers, totals, undelivered
from notifier.ledger.schema import attempts, events, notifications

__all__ = [
    "SUMMARY",
    "Filter",
    "Page",
    "attempts_after",
    "count",
    "existing",
    "list_notifications",
    "merchant_rates",
    "newest_attempt",
    "payload",
    "show",
    "tiers",
    "totals",
    "undelivered",
]

#: At most so many attempts and events of one notification are shown: a replay adds to them, and there may be many.
MOST_SHOWN = 1000
#: Ids in one `IN (…)`.
_AT_ONCE = 500

#: What lists tell of each.
SUMMARY = [
    *(column for column in notifications.c if column.name not in ("payload", "headers") and column.name[-3:] != "_of"),
    notifications.c.payload.is_not(None).label("payload_kept"),
]


@dataclass(frozen=True, slots=True)
class Page:
    """Notifications as JSON. next: what to ask for the following page with; None on the last one."""

    items: Sequence[Mapping[str, Any]]
    next: str | None


async def list_notifications(database: Database, wanted: Filter, after: str | None, limit: int) -> Page:
    """One page, the newest accepted first. after: `next` of the page before. Raises InvalidInput for another text."""
    newest_first = notifications.c.accepted_at.desc(), notifications.c.id.desc()
    found: dict[str, RowMapping] = {}
    async with database.connect() as connection:
        for part in wanted.by_index():
            query = select(*SUMMARY).where(*part.conditions()).order_by(*newest_first).limit(limit + 1)
            if after is not None:
                query = _after(query, after)
            found |= {row["id"]: row for row in (await connection.execute(query)).mappings()}
    rows = sorted(found.values(), key=lambda row: (row["accepted_at"], row["id"]), reverse=True)
    more = len(rows) > limit
    rows = rows[:limit]
    return Page([shown.notification(row) for row in rows], _cursor(rows[-1]) if more and rows else None)


async def show(database: Database, notification: str) -> dict[str, Any] | None:
    """One with its payload, attempts and events, each in the order of time; None for an id that is not known."""
    name = clean(notification)
    whole = select(*SUMMARY, notifications.c.payload).where(notifications.c.id == name)
    made = select(attempts).where(attempts.c.notification == name).order_by(attempts.c.run, attempts.c.number)
    made = made.order_by(attempts.c.started, attempts.c.seq).limit(MOST_SHOWN)
    noted = select(events).where(events.c.notification == name).order_by(events.c.at, events.c.id).limit(MOST_SHOWN)
    async with database.connect() as connection:
        row = (await connection.execute(whole)).mappings().first()
        if row is None:
            return None
        attempt_rows = (await connection.execute(made)).mappings().all()
        event_rows = (await connection.execute(noted)).mappings().all()
    return {
        **shown.notification(row),
        "attempt_log": [shown.attempt(each) for each in attempt_rows],
        "events": [shown.event(each) for each in event_rows],
        **shown.payload(row["payload"]),
    }


async def existing(database: Database, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are known."""
    found: set[str] = set()
    async with database.connect() as connection:
        for first in range(0, len(ids), _AT_ONCE):
            some = [clean(each) for each in ids[first : first + _AT_ONCE]]
            query = select(notifications.c.id).where(notifications.c.id.in_(some))
            found.update((await connection.execute(query)).scalars())
    return found


async def payload(database: Database, notification: str) -> bytes | None:
    """The payload, byte for byte; None if it is not kept any more, or of an id that is not known."""
    query = select(notifications.c.payload).where(notifications.c.id == clean(notification))
    async with database.connect() as connection:
        kept = (await connection.execute(query)).scalar()
    return None if kept is None else bytes(kept)


async def count(database: Database, wanted: Filter) -> int:
    """How many match now."""
    query = select(func.count()).select_from(notifications).where(*wanted.conditions())
    async with database.connect() as connection:
        return int((await connection.execute(query)).scalar_one())


def _after(query: Select[Any], cursor: str) -> Select[Any]:
    columns = tuple_(notifications.c.accepted_at, notifications.c.id)
    return query.where(columns < tuple_(*read_cursor(cursor)))


def _cursor(row: Mapping[Any, Any]) -> str:
    return base64.urlsafe_b64encode(f"{row['accepted_at']}.{row['id']}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[int, str]:
    """The place that a `next` names: accepted_at, Unix milliseconds, and id. Raises InvalidInput."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        accepted_at, _, name = text.partition(".")
        if len(accepted_at) <= 16 and name:
            return int(accepted_at), clean(name)
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput(f"{cursor!r:.80} is no `next` of a page of notifications")
