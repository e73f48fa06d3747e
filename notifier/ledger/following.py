"""Attempts as they come in, for those who watch."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from notifier.ledger import shown
from notifier.ledger.database import Database
from notifier.ledger.schema import attempts

_PASSING = [column for column in attempts.c if column.name not in ("answer", "sent_headers")]


async def attempts_after(database: Database, seq: int, limit: int) -> list[dict[str, Any]]:
    """The first so many attempts that were stored after that one, in the order in which they were; as JSON.

    Where several agents write to one PostgreSQL, one that is still being stored may be passed over: for watching, not
    for accounts. Raises DatabaseUnavailable.
    """
    query = select(*_PASSING).where(attempts.c.seq > seq).order_by(attempts.c.seq).limit(limit)
    async with database.connect() as connection:
        return [shown.passing_attempt(row) for row in (await connection.execute(query)).mappings()]


async def newest_attempt(database: Database) -> int:
    """The `seq` of the attempt that was stored last, 0 before the first. Raises DatabaseUnavailable."""
    async with database.connect() as connection:
        return int((await connection.execute(select(func.max(attempts.c.seq)))).scalar() or 0)
