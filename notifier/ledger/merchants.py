"""The registry in the ledger's database: merchants, cancellations, and the one version that counts for both.

Every change raises the version in its own transaction, first of all. That takes the row's lock, so changes come one
after the other, on all machines, and versions are in the order of commit: whoever sees a version sees all before it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier.domain.merchant import Standing
from notifier.ledger.database import Database
from notifier.ledger.schema import cancellations, merchants, registry_version

#: Values in one `IN (…)`: SQLite allows 32,766 in a statement.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Row:
    """One merchant. body: JSON, see `registry.form`; None: it was removed. standing, until: as in the body.

    until: end of a block. changed_at: Unix milliseconds. version is given when it is kept.
    """

    id: str
    version: int
    body: str | None
    standing: str
    until: int | None
    url: str | None
    changed_at: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    """One notification that is not to be attempted any more, up to and with a run. until: Unix milliseconds."""

    notification: str
    version: int
    run: int
    why: str | None
    until: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed after some version, in the order of versions. more: there are further ones after `reached`."""

    merchants: Sequence[Row]
    cancellations: Sequence[Cancellation]
    reached: int
    more: bool


#: What becomes of a merchant: gets its row or None, returns the new one. What it raises undoes everything.
Alter = Callable[[Row | None], Row]

_ROW = (
    merchants.c.id,
    merchants.c.version,
    merchants.c.body,
    merchants.c.standing,
    merchants.c.until,
    merchants.c.url,
    merchants.c.changed_at,
)
_CANCELLATION = (
    cancellations.c.notification,
    cancellations.c.version,
    cancellations.c.run,
    cancellations.c.why,
    cancellations.c.until,
)

_STAND = select(registry_version.c.origin, registry_version.c.version)


async def stand(database: Database) -> tuple[str, int]:
    """Which registry this is, and its version. The first who asks gives it its name. Raises DatabaseUnavailable."""
    async with database.connect() as connection:
        found = (await connection.execute(_STAND)).first()
    if found is None:
        async with database.begin() as connection:
            first = database.insert(registry_version).values(_first_stand(0))
            await connection.execute(first.on_conflict_do_nothing(index_elements=["id"]))
            found = (await connection.execute(_STAND)).one()
    return str(found.origin), int(found.version)


async def get(database: Database, merchant: str) -> Row | None:
    """One merchant's row, also one that says it was removed. Raises DatabaseUnavailable."""
    async with database.connect() as connection:
        return await _get(connection, merchant)


async def page(
    database: Database,
    *,
    after: str = "",
    limit: int = 100,
    standing: Standing | None = None,
    text: str | None = None,
    now_ms: int = 0,
) -> list[Row]:
    """Merchants in the order of their ids, after one, removed ones left out.

    standing: only those that are so at `now_ms`. text: only those that have it in id or url, whatever its case.
    Raises DatabaseUnavailable.
    """
    query: Select[Any] = select(*_ROW).where(merchants.c.body.is_not(None), merchants.c.id > after)
    query = _standing_now(query, standing, now_ms)
    if text:
        query = query.where(
            or_(merchants.c.id.icontains(text, autoescape=True), merchants.c.url.icontains(text, autoescape=True))
        )
    async with database.connect() as connection:
        return [Row(*found) for found in await connection.execute(query.order_by(merchants.c.id).limit(limit))]


async def count(database: Database, standing: Standing | None = None, now_ms: int = 0) -> int:
    """How many there are, removed ones left out; see `page`. Raises DatabaseUnavailable."""
    query = select(func.count()).select_from(merchants).where(merchants.c.body.is_not(None))
    async with database.connect() as connection:
        return int((await connection.execute(_standing_now(query, standing, now_ms))).scalar_one())


async def whole(database: Database, after: int, limit: int) -> list[Row]:
    """All rows in the order of their versions, after one, the removed ones as well: for comparing a copy.

    By version and not by id, whose order is another one in every database. Raises DatabaseUnavailable.
    """
    query = select(*_ROW).where(merchants.c.version > after).order_by(merchants.c.version).limit(limit)
    async with database.connect() as connection:
        return [Row(*found) for found in await connection.execute(query)]


async def some(database: Database, ids: Collection[str]) -> list[Row]:
    """The rows of these merchants, as far as there are any. Raises DatabaseUnavailable."""
    wanted, found = list(ids), list[Row]()
    async with database.connect() as connection:
        for first in range(0, len(wanted), _AT_ONCE):
            query = select(*_ROW).where(merchants.c.id.in_(wanted[first : first + _AT_ONCE]))
            found += [Row(*row) for row in await connection.execute(query)]
    return found


async def changed_since(database: Database, version: int, limit: int = 1000) -> Changes:
    """Merchants and cancellations that changed after a version, at most `limit` of each. Raises DatabaseUnavailable.

    Once all of them are taken over, a copy is at `reached`; what is newer than that may be among them all the same.
    """
    async with database.connect() as connection:
        now = int((await connection.execute(select(func.max(registry_version.c.version)))).scalar() or 0)
        rows = select(*_ROW).where(merchants.c.version > version).order_by(merchants.c.version).limit(limit)
        changed = [Row(*found) for found in await connection.execute(rows)]
        cancelled = (
            select(*_CANCELLATION)
            .where(cancellations.c.version > version)
            .order_by(cancellations.c.version)
            .limit(limit)
        )
        given_up = [Cancellation(*found) for found in await connection.execute(cancelled)]
    ends = [part[-1].version for part in (changed, given_up) if len(part) == limit]
    reached = min([now, *ends])
    return Changes(changed, given_up, reached, more=bool(ends) and reached < now)


async def disabled_since(database: Database, moment_ms: int, limit: int = 1000) -> list[Row]:
    """Disabled merchants that were changed since that moment, Unix ms; those changed last first."""
    c = merchants.c
    query = (
        select(*_ROW)
        .where(c.standing == str(Standing.DISABLED), c.body.is_not(None), c.changed_at >= moment_ms)
        .order_by(c.changed_at.desc(), c.id)
        .limit(limit)
    )
    async with database.connect() as connection:
        return [Row(*row) for row in await connection.execute(query)]


async def all_cancellations(database: Database, now_ms: int) -> list[Cancellation]:
    """Those that still count. Raises DatabaseUnavailable."""
    query = select(*_CANCELLATION).where(cancellations.c.until > now_ms)
    async with database.connect() as connection:
        return [Cancellation(*found) for found in await connection.execute(query)]


async def change(database: Database, merchant: str, alter: Alter) -> Row:
    """Read, alter and write one merchant, version included, in one transaction. Returns the row as it is now.

    Raises DatabaseUnavailable, and what `alter` raises; then nothing has changed.
    """
    async with database.begin() as connection:
        version = await _next_version(database, connection)
        altered = alter(await _get(connection, merchant))
        kept = Row(merchant, version, altered.body, altered.standing, altered.until, altered.url, altered.changed_at)
        values = {name: getattr(kept, name) for name in Row.__slots__}
        insert = database.insert(merchants).values(values)
        await connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values))
    return kept


async def cancel(database: Database, notification: str, run: int, why: str | None, until: int) -> Cancellation:
    """Give up a notification up to and with this run. Raises DatabaseUnavailable; then nothing has changed.

    Twice is fine: the greater run and the later end count.
    """
    async with database.begin() as connection:
        version = await _next_version(database, connection)
        query = select(*_CANCELLATION).where(cancellations.c.notification == notification)
        before = (await connection.execute(query)).first()
        kept = Cancellation(
            notification,
            version,
            max(run, before.run) if before else run,
            why,
            max(until, before.until) if before else until,
        )
        values = {name: getattr(kept, name) for name in Cancellation.__slots__}
        insert = database.insert(cancellations).values(values)
        await connection.execute(insert.on_conflict_do_update(index_elements=["notification"], set_=values))
    return kept


async def forget_cancellations(database: Database, now_ms: int) -> int:
    """Remove those of which nothing can be on its way any more; how many. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        gone = await connection.execute(delete(cancellations).where(cancellations.c.until <= now_ms))
    return int(gone.rowcount)


async def standings(database: Database, ids: Collection[str], now_ms: int) -> dict[str, tuple[Standing, str | None]]:
    """For each of these merchants that the registry has: its standing at `now_ms`, and its url."""
    wanted, found = list(ids), dict[str, tuple[Standing, str | None]]()
    async with database.connect() as connection:
        for first in range(0, len(wanted), _AT_ONCE):
            query = select(merchants.c.id, merchants.c.standing, merchants.c.until, merchants.c.url).where(
                merchants.c.id.in_(wanted[first : first + _AT_ONCE]), merchants.c.body.is_not(None)
            )
            for row in await connection.execute(query):
                over = row.standing == Standing.BLOCKED and row.until is not None and row.until <= now_ms
                found[row.id] = (Standing.ENABLED if over else Standing(row.standing), row.url)
    return found


async def _get(connection: AsyncConnection, merchant: str) -> Row | None:
    found = (await connection.execute(select(*_ROW).where(merchants.c.id == merchant))).first()
    return None if found is None else Row(*found)


async def _next_version(database: Database, connection: AsyncConnection) -> int:
    raised = (
        database.insert(registry_version)
        .values(_first_stand(1))
        .on_conflict_do_update(index_elements=["id"], set_={"version": registry_version.c.version + 1})
        .returning(registry_version.c.version)
    )
    return int((await connection.execute(raised)).scalar_one())


def _first_stand(version: int) -> dict[str, Any]:
    return {"id": 1, "origin": str(uuid.uuid4()), "version": version}


def _standing_now(query: Select[Any], standing: Standing | None, now_ms: int) -> Select[Any]:
    """Only those that are so now: a block may have ended by itself since it was written."""
    if standing is None:
        return query
    kept, until = merchants.c.standing, merchants.c.until
    over = (kept == Standing.BLOCKED) & until.is_not(None) & (until <= now_ms)
    if standing is Standing.ENABLED:
        return query.where(or_(kept == Standing.ENABLED, over))
    if standing is Standing.BLOCKED:
        return query.where(kept == Standing.BLOCKED, or_(until.is_(None), until > now_ms))
    return query.where(kept == standing)
