"""Retention: what is finished and old goes, in small pieces, so that facts never wait long for it. Never what is
unfinished, nor its attempts, however old they are.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, delete, exists, or_, select, tuple_, update

from notifier.ledger.database import Database
from notifier.ledger.schema import attempts, claims, events, notifications, replays
from notifier.sections import Retention

#: Rows of each kind in one piece.
PIECE = 500
#: Rows that are looked at for one piece of payloads.
_LOOKED_AT = 5000
_DAY_MS, _MINUTE_MS = 86_400_000, 60_000
#: The answer to an idempotency key counts for 24 h; whoever is late with its clock finds it all the same.
_CLAIMS_MS = 2 * _DAY_MS


class Pruner:
    """Removes what the settings say. One at a time is enough for a whole fleet; several do no harm."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._payloads = int(retention.payloads * _DAY_MS)
        self._notifications = int(retention.notifications * _DAY_MS)
        # "days that anything is kept" counts for attempts too
        self._attempts = min(int(retention.attempts * _DAY_MS), self._notifications)
        self._payloads_gone = (-1, "")
        #: What is told late, or ended with a clock that was behind, is no more than a day late.
        self._late = max(_DAY_MS - self._payloads, _MINUTE_MS)

    async def prune(self, now_ms: int) -> int:
        """One piece of each kind; returns how many rows it was, 0 when nothing is left. Raises DatabaseUnavailable."""
        return (
            await self._prune_payloads(now_ms - self._payloads)
            + await self._prune_notifications(now_ms - self._notifications)
            + await self._prune_rows(attempts, attempts.c.seq, attempts.c.started, now_ms - self._attempts)
            + await self._prune_rows(events, events.c.id, events.c.at, now_ms - self._attempts)
            + await self._prune_claims(now_ms - _CLAIMS_MS)
            + await self._prune_replays(now_ms - self._notifications)
        )

    async def _prune_payloads(self, before: int) -> int:
        """Payload and headers: without them nothing can be sent again, and what happened can still be looked up.

        What was looked at once is not looked at again. Also those that are kept without their payload are counted in a
        piece: after a start they are all there is for long, and to look for 500 others among them in one statement
        takes longer than one may.
        """
        columns = notifications.c
        place = tuple_(columns.finished_at, columns.id)
        query = (
            select(columns.id, columns.finished_at, columns.payload.is_not(None).label("has_payload"))
            .where(columns.finished_at >= self._payloads_gone[0], columns.finished_at < before)
            .where(place > self._payloads_gone)
            .order_by(columns.finished_at, columns.id)
            .limit(_LOOKED_AT)
        )
        async with self._database.connect() as connection:
            found = (await connection.execute(query)).all()
        ids = [row.id for row in found if row.has_payload][:PIECE]
        if ids:
            async with self._database.begin() as connection:
                await connection.execute(
                    update(notifications)
                    .where(columns.id.in_(ids), columns.finished_at < before)
                    .values(payload=None, headers=None)
                )
        if len(ids) == PIECE:
            last = next(row for row in found if row.id == ids[-1])
        elif len(found) == _LOOKED_AT:
            last = found[-1]
        else:
            self._payloads_gone = (max(before - self._late, -1), "")
            return len(ids)
        self._payloads_gone = (last.finished_at, last.id)
        return max(1, len(ids))

    async def _prune_notifications(self, before: int) -> int:
        """With everything that is known of them."""
        old = notifications.c.finished_at < before
        ids = await self._found(select(notifications.c.id).where(old).order_by(notifications.c.finished_at))
        if not ids:
            return 0
        async with self._database.begin() as connection:
            # replayed in this moment: not old any more
            still = delete(notifications).where(notifications.c.id.in_(ids), old).returning(notifications.c.id)
            gone = list((await connection.execute(still)).scalars())
            for table in (attempts, events):
                await connection.execute(delete(table).where(table.c.notification.in_(gone)))
        return len(gone)

    async def _prune_rows(self, table: Table, key: Column[Any], at: Column[Any], before: int) -> int:
        """Attempts or events by their own age, unless their notification is unfinished."""
        unfinished = exists().where(
            and_(notifications.c.id == table.c.notification, notifications.c.finished_at.is_(None))
        )
        return await self._delete(table, key, and_(at < before, ~unfinished), at)

    async def _prune_claims(self, before: int) -> int:
        old = claims.c.created_at < before
        async with self._database.connect() as connection:
            query = select(claims.c.scope, claims.c.key).where(old).limit(PIECE)
            found = (await connection.execute(query)).all()
        if found:
            async with self._database.begin() as connection:
                for scope, key in found:
                    await connection.execute(delete(claims).where(claims.c.scope == scope, claims.c.key == key, old))
        return len(found)

    async def _prune_replays(self, before: int) -> int:
        ended = and_(replays.c.state != "running", or_(replays.c.finished_at < before, replays.c.created_at < before))
        return await self._delete(replays, replays.c.id, ended, replays.c.created_at)

    async def _delete(self, table: Table, key: Column[Any], old: ColumnElement[bool], order: Column[Any]) -> int:
        keys = await self._found(select(key).where(old).order_by(order))
        if keys:
            async with self._database.begin() as connection:
                await connection.execute(delete(table).where(key.in_(keys), old))
        return len(keys)

    async def _found(self, query: Any) -> list[Any]:
        """Looked for outside of the transaction that removes: most of the time there is nothing."""
        async with self._database.connect() as connection:
            return list((await connection.execute(query.limit(PIECE))).scalars())
