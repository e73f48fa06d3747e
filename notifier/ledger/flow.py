"""How many attempts were made, by tier and time, and what became of what was sent again: for the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, select

from notifier.ledger import shown
from notifier.ledger.database import Database
from notifier.ledger.notifications import SUMMARY
from notifier.ledger.schema import attempts, events, notifications


@dataclass(frozen=True, slots=True)
class Flow:
    """Attempts of one tier in one span of time. span: its number since 1970. delivered: acknowledged."""

    tier: str
    span: int
    delivered: int
    failed: int


async def flow(database: Database, since_ms: int, span_ms: int, *, until_ms: int) -> list[Flow]:
    """Attempts that started from one moment to before another, counted by tier and spans of `span_ms`.

    Reads each of them, in an index. Raises DatabaseUnavailable.
    """
    span = attempts.c.started // span_ms
    good = func.sum(case((attempts.c.error.is_(None), 1), else_=0))
    query = (
        select(attempts.c.tier, span.label("span"), good.label("good"), func.count().label("made"))
        .where(attempts.c.started >= since_ms, attempts.c.started < until_ms)
        .group_by(attempts.c.tier, span)
    )
    async with database.connect() as connection:
        return [
            Flow(row.tier, int(row.span), int(row.good), int(row.made) - int(row.good))
            for row in await connection.execute(query)
        ]


async def replayed(database: Database, since_ms: int, until_ms: int, who: str) -> dict[str, int]:
    """What became of the notifications that `who` sent again from one moment to another: status → how many.

    Raises DatabaseUnavailable.
    """
    query = (
        select(notifications.c.stands.label("status"), func.count())
        .where(notifications.c.id.in_(_again(since_ms, until_ms, who)))
        .group_by(notifications.c.stands)
    )
    async with database.connect() as connection:
        return {status: int(count) for status, count in await connection.execute(query)}


async def sent_again(database: Database, since_ms: int, until_ms: int, who: str, limit: int) -> list[Mapping[str, Any]]:
    """Those notifications, as lists tell them: what is not delivered first, then the newest.

    Raises DatabaseUnavailable.
    """
    delivered = case((notifications.c.stands == "completed", 1), else_=0)
    query = (
        select(*SUMMARY)
        .where(notifications.c.id.in_(_again(since_ms, until_ms, who)))
        .order_by(delivered, notifications.c.accepted_at.desc(), notifications.c.id.desc())
        .limit(limit)
    )
    async with database.connect() as connection:
        return [shown.notification(row) for row in (await connection.execute(query)).mappings().all()]


def _again(since_ms: int, until_ms: int, who: str) -> Select[tuple[str]]:
    return select(events.c.notification).where(
        events.c.kind == "replayed", events.c.at >= since_ms, events.c.at <= until_ms, events.c.who == who
    )


async def rates(database: Database, merchants: Sequence[str], since_ms: int) -> dict[str, tuple[int, int]]:
    """Attempts to each of these merchants since a moment: how many, and how many of them acknowledged.

    Reads their attempts alone, in an index. Raises DatabaseUnavailable.
    """
    good = func.sum(case((attempts.c.error.is_(None), 1), else_=0))
    query = (
        select(attempts.c.merchant, func.count(), good)
        .where(attempts.c.merchant.in_(merchants), attempts.c.started >= since_ms)
        .group_by(attempts.c.merchant)
    )
    async with database.connect() as connection:
        return {merchant: (int(made), int(done)) for merchant, made, done in await connection.execute(query)}


async def failing(database: Database, least: int, merchant: str | None = None) -> list[dict[str, Any]]:
    """What failed at least so often and is still on its ladder, by merchant and last error. merchant: only its own.

    Told as `overview.undelivered` tells its groups, with `status` attempted. Raises DatabaseUnavailable.
    """
    columns = notifications.c
    wanted = [columns.status == "attempted", columns.attempts >= least, columns.last_error.is_not(None)]
    if merchant is not None:
        wanted.append(columns.merchant == merchant)
    oldest, newest = func.min(columns.accepted_at).label("oldest"), func.max(columns.accepted_at).label("newest")
    query = (
        select(columns.merchant, columns.status, columns.last_error, func.count().label("count"), oldest, newest)
        .where(*wanted)
        .group_by(columns.merchant, columns.status, columns.last_error)
    )
    async with database.connect() as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [
        {**row, "reason": None, "oldest": shown.moment(row["oldest"]), "newest": shown.moment(row["newest"])}
        for row in rows
    ]
