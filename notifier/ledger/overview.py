"""Questions about many notifications at once: what is undelivered and why, what is late, who succeeds.

Everything raises DatabaseUnavailable.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, func, literal_column, or_, select, text

from notifier.ledger import shown
from notifier.ledger.database import Database
from notifier.ledger.filtering import Filter
from notifier.ledger.schema import WAITS, attempts, notifications
from notifier.ledger.standing import STATUSES, UNDELIVERED


async def undelivered(database: Database, wanted: Filter) -> list[dict[str, Any]]:
    """What merchants did not get, grouped by what stands in the way; the largest groups first.

    Of each: merchant, status, reason (of what is held or stopped), last_error (of what is exhausted), count, oldest and
    newest (when they were accepted). What was delivered once, was sent again and is held now is among what is held.
    wanted: of all undelivered, only these.
    """
    columns = notifications.c
    held = columns.stands == literal_column("'held'")
    status = case((held, "held"), else_=columns.status).label("status")
    reason = case((held, columns.stands_why), (columns.status == "stopped", columns.reason)).label("reason")
    error = case((columns.status == "exhausted", columns.last_error)).label("last_error")
    group = columns.merchant, status, reason, error
    query = (
        select(*group, func.count().label("count"), _oldest("oldest"), _newest("newest"))
        .where(*wanted.conditions(), or_(columns.status.in_(UNDELIVERED), held))
        .group_by(*group)
        .order_by(func.count().desc(), columns.merchant, status, reason, error)
    )
    async with database.connect() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [{**row, "oldest": shown.moment(row["oldest"]), "newest": shown.moment(row["newest"])} for row in rows]


async def totals(database: Database) -> dict[str, int]:
    """How many there are of each status, zeros included. Reads an index from end to end: not for every second."""
    query = select(notifications.c.status, func.count()).group_by(notifications.c.status)
    async with database.connect() as connection:
        found = {status: int(number) for status, number in await connection.execute(query)}
    return {status: found.get(status, 0) for status in STATUSES}


async def tiers(database: Database) -> dict[str, int]:
    """For each tier in which something waits, when the first of it is due, Unix milliseconds: its head.

    Costs a look into an index for each tier, however much waits.
    """
    columns, heads = notifications.c, dict[str, int]()
    waits = text(WAITS)  # as the index says it: the planner sees no more than that
    async with database.connect() as connection:
        tier = ""
        while True:
            tier = (await connection.execute(select(func.min(columns.tier)).where(waits, columns.tier > tier))).scalar()
            if tier is None:
                return heads
            due = (
                await connection.execute(select(func.min(columns.due_at)).where(waits, columns.tier == tier))
            ).scalar()
            if due is not None:
                heads[tier] = int(due)


async def merchant_rates(database: Database, since_ms: int) -> dict[str, dict[str, int]]:
    """For each merchant with attempts since that moment: {"made", "delivered"}, how many and how many acknowledged."""
    good = func.sum(case((attempts.c.error.is_(None), 1), else_=0))
    query = (
        select(attempts.c.merchant, func.count().label("made"), good.label("delivered"))
        .where(attempts.c.started >= since_ms)
        .group_by(attempts.c.merchant)
    )
    async with database.connect() as connection:
        rows = (await connection.execute(query)).all()
    return {row.merchant: {"made": int(row.made), "delivered": int(row.delivered)} for row in rows}


def _oldest(name: str) -> Any:
    return func.min(notifications.c.accepted_at).label(name)


def _newest(name: str) -> Any:
    return func.max(notifications.c.accepted_at).label(name)
