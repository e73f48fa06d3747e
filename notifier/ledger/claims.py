"""Idempotency keys of the HTTP API: the ids of a request are here before anything of it is published.

So whoever finishes the request, this process, another one, or one that was started after this one died, publishes the
same notifications. A claim belongs to whoever took it for `LEASE` ms, which is longer than anybody works on a request;
then the next who comes with the same key takes it over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier.errors import InvalidInput
from notifier.ledger.database import Database
from notifier.ledger.schema import claims

#: Milliseconds that a claim is somebody's, and that its answer is kept.
LEASE = 12_000
LIFE = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Mine:
    """The caller is to do the work, under these ids; None where the request has something that gets no id."""

    ids: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Answered:
    """The work was done: HTTP status and body of its answer."""

    code: int
    answer: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody works on it."""


Claim = Mine | Answered | Busy


async def take(database: Database, scope: str, key: str, digest: str, ids: Sequence[str | None], now_ms: int) -> Claim:
    """Claim a key. scope: whose key it is. digest: of the request. ids: to be used if nobody was here before.

    Raises InvalidInput if the key belongs to another request, DatabaseUnavailable; then nothing may be published.
    """
    async with database.begin() as connection:
        await connection.execute(delete(claims).where(_of(scope, key), claims.c.created_at <= now_ms - LIFE))
        row = {
            "scope": scope,
            "key": key,
            "digest": digest,
            "ids": json.dumps(list(ids)),
            "created_at": now_ms,
            "taken_at": now_ms,
        }
        made = await connection.execute(database.insert(claims).values(row).on_conflict_do_nothing())
        if made.rowcount:
            return Mine(ids)
        return await _found(connection, scope, key, digest, now_ms)


async def answer(database: Database, scope: str, key: str, code: int, text: str) -> None:
    """Keep what was answered, for whoever asks again. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        await connection.execute(update(claims).where(_of(scope, key)).values(code=code, answer=text))


async def give_up(database: Database, scope: str, key: str) -> None:
    """Let the next one take it over at once, with the same ids. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        unanswered = and_(_of(scope, key), claims.c.code.is_(None))
        await connection.execute(update(claims).where(unanswered).values(taken_at=0))


async def _found(connection: AsyncConnection, scope: str, key: str, digest: str, now_ms: int) -> Claim:
    row = (await connection.execute(select(claims).where(_of(scope, key)))).first()
    if row is None:
        return Busy()  # it was there a moment ago, and its time was over
    if row.digest != digest:
        raise InvalidInput("this Idempotency-Key was used for another request; a new request needs a new key")
    if row.code is not None:
        return Answered(row.code, row.answer)
    if row.taken_at > now_ms - LEASE:
        return Busy()
    as_it_was = and_(_of(scope, key), claims.c.taken_at == row.taken_at, claims.c.code.is_(None))
    taken = await connection.execute(update(claims).where(as_it_was).values(taken_at=now_ms))
    return Mine(json.loads(row.ids)) if taken.rowcount else Busy()


def _of(scope: str, key: str) -> ColumnElement[bool]:
    return and_(claims.c.scope == scope, claims.c.key == key)
