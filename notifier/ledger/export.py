"""The ledger as CSV (RFC 4180), for spreadsheets and other programs, row by row as it is read."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TextIO

from sqlalchemy import select

from notifier.ledger import shown
from notifier.ledger.database import Database
from notifier.ledger.filtering import Filter
from notifier.ledger.notifications import list_notifications
from notifier.ledger.schema import attempts

NOTIFICATION_COLUMNS = (
    "id", "merchant", "reference", "url", "ladder", "status", "reason", "detail", "run", "attempts", "step", "tier",
    "due_at", "accepted_at", "updated_at", "finished_at", "last_error", "last_status", "content_type", "payload_kept",
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "notification", "merchant", "reference", "attempt", "run", "number", "step", "tier", "due", "started", "late_ms",
    "duration_ms", "address", "status", "error", "detail", "decision", "next_tier",
)  # fmt: skip
#: Notifications read at once; each page is read of one moment, and nothing is locked in between.
PAGE = 500
#: What a spreadsheet takes for a formula, where a merchant or a producer may have written it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def write(database: Database, wanted: Filter, stream: TextIO, *, attempts: bool = False) -> int:
    """Write what matches, newest first: one line per notification, or per attempt of them; returns how many lines.

    The first line names the columns. Text that a spreadsheet would run as a formula has a ' before it. Payloads,
    headers and answers are left out: `show` has them. Raises DatabaseUnavailable, OSError of the stream.
    """
    columns = ATTEMPT_COLUMNS if attempts else NOTIFICATION_COLUMNS
    lines = csv.writer(stream, lineterminator="\r\n")
    lines.writerow(columns)
    count = 0
    async for page in _pages(database, wanted):
        rows = await _attempts(database, page) if attempts else page
        lines.writerows([[_cell(row[name]) for name in columns] for row in rows])
        count += len(rows)
    return count


async def _pages(database: Database, wanted: Filter) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    after: str | None = None
    while True:
        page = await list_notifications(database, wanted, after, PAGE)
        yield page.items
        if page.next is None:
            return
        after = page.next


async def _attempts(database: Database, page: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All attempts of these notifications, in their order."""
    place = {item["id"]: (number, item["reference"]) for number, item in enumerate(page)}
    columns = [column for column in attempts.c if column.name not in ("answer", "sent_headers")]
    query = select(*columns).where(attempts.c.notification.in_(place)).order_by(attempts.c.run, attempts.c.number)
    async with database.connect() as connection:
        rows = (await connection.execute(query.order_by(attempts.c.seq))).mappings().all()
    told = [{**shown.passing_attempt(row), "reference": place[row["notification"]][1]} for row in rows]
    return sorted(told, key=lambda row: place[row["notification"]][0])


def _cell(value: object) -> object:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
