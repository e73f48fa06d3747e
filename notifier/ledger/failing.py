"""Merchants whose registered endpoint has acknowledged nothing for days, from the attempts in the ledger.

Cheap by being asked in this order: of each enabled merchant its newest attempt, a look into an index; only of those
where that failed, whether any succeeded lately; only of those where none did, how many failed. Everything raises
DatabaseUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier.domain.merchant import Standing
from notifier.ledger.database import Database
from notifier.ledger.schema import attempts, merchants, notifications

DAY_MS = 86_400_000
#: Merchants looked at in one query.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Rule:
    """When an endpoint is given up. days: nothing was acknowledged for so long, and the merchant was not changed in
    that time either. attempts: at least so many failed in it, on so many different days of UTC, the last one within a
    day: who is called seldom is never given up for two bad moments.
    """

    days: float
    attempts: int = 10

    @property
    def different_days(self) -> int:
        """As many as there are, at most three."""
        return max(1, min(3, int(self.days)))


@dataclass(frozen=True, slots=True)
class Failing:
    """A registered endpoint whose every attempt failed. since: when the first of them started, Unix milliseconds.
    attempts: how many.
    """

    merchant: str
    url: str
    since: int
    attempts: int


async def failing(database: Database, rule: Rule, now_ms: int) -> list[Failing]:
    """All to whom the rule applies at this moment."""
    found: list[Failing] = []
    before_ms, after = now_ms - round(rule.days * DAY_MS), ""
    while True:
        async with database.connect() as connection:
            page = (await connection.execute(_page(after, before_ms, now_ms))).all()
        for merchant, url, newest_failed in page:
            if newest_failed is not None:
                async with database.connect() as connection:
                    one = await _judged(connection, rule, merchant, url, before_ms)
                found += [one] if one is not None else []
        if len(page) < PAGE:
            return found
        after = page[-1].id


def _page(after: str, before_ms: int, now_ms: int) -> Select[Any]:
    """Merchants that may be called and were not changed since, each with the error of its newest attempt of a day."""
    newest = (
        _called(select(attempts.c.error), merchants.c.url)
        .where(attempts.c.merchant == merchants.c.id, attempts.c.started >= now_ms - DAY_MS)
        .order_by(attempts.c.started.desc(), attempts.c.seq.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(merchants.c.id, merchants.c.url, newest.label("newest"))
        .where(
            merchants.c.id > after,
            merchants.c.standing == str(Standing.ENABLED),
            merchants.c.body.is_not(None),
            merchants.c.url.is_not(None),
            merchants.c.changed_at <= before_ms,
        )
        .order_by(merchants.c.id)
        .limit(PAGE)
    )


async def _judged(connection: AsyncConnection, rule: Rule, merchant: str, url: str, before_ms: int) -> Failing | None:
    mine, good = attempts.c.merchant == merchant, attempts.c.error.is_(None)
    lately = attempts.c.started >= before_ms

    async def first(*columns: Any, where: Sequence[ColumnElement[bool]], order: Any = None) -> Any:
        query = _called(select(*columns), url).where(mine, *where)
        return (await connection.execute(query if order is None else query.order_by(order).limit(1))).first()

    if await first(attempts.c.seq, where=(good, lately), order=attempts.c.started.desc()):
        return None
    earlier = await first(attempts.c.error, where=(~lately,), order=attempts.c.started.desc())
    if earlier is None or earlier.error is None:
        return None  # it has not failed for that long yet
    days = func.count(func.distinct(attempts.c.started // DAY_MS))
    made, on = await first(func.count(), days, where=(lately,))
    if made < rule.attempts or on < rule.different_days:
        return None
    success = await first(attempts.c.started, where=(good,), order=attempts.c.started.desc())
    since_then = and_(attempts.c.started > (success.started if success else 0))
    began, failed = await first(func.min(attempts.c.started), func.count(), where=(since_then,))
    return Failing(merchant, url, int(began), int(failed))


def _called(query: Select[Any], url: Any) -> Select[Any]:
    """Of attempts, those that went to the registered address."""
    of = query.join(notifications, notifications.c.id == attempts.c.notification)
    return of.where(or_(notifications.c.url.is_(None), notifications.c.url == url))
