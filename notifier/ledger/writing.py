"""Facts into the ledger: each one once, and what they come to in the row of their notification.

All facts of a call in one transaction: insert what is absent, then merge what was absent into the notifications. So a
fact that comes again changes nothing, and the rows do not depend on the order in which facts come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, bindparam, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier.domain.fact import Kind
from notifier.errors import DatabaseUnavailable
from notifier.ledger import unavailable
from notifier.ledger.database import Database
from notifier.ledger.fact_rows import BadFact, Read, Row, read
from notifier.ledger.schema import attempts, events, notifications

__all__ = ["BadFact", "FactWriter", "Written"]

#: How often a batch is tried that another transaction is in the way of (a deadlock): the other is done by then.
_TRIES = 3
#: Notifications whose merchants are asked for in one statement.
_AT_ONCE = 5000
_OWNERS = select(notifications.c.id, notifications.c.merchant).where(
    notifications.c.id.in_(bindparam("ids", expanding=True))
)
#: Columns of a notification that are taken together from one fact: that with the greatest place.
_GROUPS = {
    "status_of": ("status", "reason", "detail"),
    "stands_of": ("stands", "stands_why", "finished_at"),
    "whole_of": ("reference", "url", "ladder", "content_type", "headers", "payload"),
    "step_of": ("step", "tier", "due_at"),
    "last_of": ("last_error", "last_status"),
}


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch. stopped: the new facts, as they were told, that ask to disable their merchant."""

    new: int
    known: int
    stopped: Sequence[Mapping[str, Any]]


class FactWriter:
    """Writes facts as they stand on the wire (`domain.fact.encode`)."""

    def __init__(
        self, database: Database, exhausted: Callable[[Sequence[Mapping[str, Any]]], None] = lambda facts: None
    ) -> None:
        """exhausted: hears of new facts of that kind, each once, after their transaction."""
        self._database = database
        self._exhausted = exhausted
        self._statements: dict[str, Any] = {}  # by table: to make one takes longer than to execute it

    async def write(self, facts: Sequence[Mapping[str, Any]]) -> Written:
        """Store them, all or none; any of them may be known already. Once this returns they survive everything that
        the database survives.

        Raises DatabaseUnavailable; BadFact, if one of them can never be stored.
        """
        told = [read(fact) for fact in facts]
        if not told:
            return Written(0, 0, ())
        new = await self._stored(told)
        stopped = [
            fact
            for fact, one, is_new in zip(facts, told, new, strict=True)
            if is_new and one.kind is Kind.STOPPED and fact.get("disable") is True
        ]
        if over := [
            fact for fact, one, is_new in zip(facts, told, new, strict=True) if is_new and one.kind is Kind.EXHAUSTED
        ]:
            self._exhausted(over)
        return Written(sum(new), len(new) - sum(new), stopped)

    async def _stored(self, told: Sequence[Read]) -> list[bool]:
        """One transaction; for each fact whether it was new. Tried again where it was in another one's way."""
        for tries_left in reversed(range(_TRIES)):
            try:
                async with self._database.begin() as connection:
                    tried = [one.attempt for one in told if one.attempt]
                    made = await self._insert(connection, attempts, "attempt", tried)
                    noted = await self._insert(connection, events, "id", [one.event for one in told if one.event])
                    new = [not known for known in _known(told, made, noted)]
                    await self._merge(connection, [one for one, is_new in zip(told, new, strict=True) if is_new])
                return new
            except DatabaseUnavailable as error:
                if not tries_left or not unavailable.retryable(error):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _insert(self, connection: AsyncConnection, table: Table, key: str, rows: Sequence[Row]) -> set[str]:
        """Insert what is absent; returns the keys of what was."""
        if not rows:
            return set()
        # in one order everywhere, so that two agents with the same facts wait for each other instead of for ever
        ordered = sorted(rows, key=lambda row: str(row[key]))
        if table.name not in self._statements:
            absent = self._database.insert(table).on_conflict_do_nothing(index_elements=[key]).returning(table.c[key])
            self._statements[table.name] = absent
        return set((await connection.execute(self._statements[table.name], ordered)).scalars())

    async def _merge(self, connection: AsyncConnection, told: Iterable[Read]) -> None:
        rows = sorted((one.notification for one in told if one.notification), key=lambda row: str(row["id"]))
        if not rows:
            return
        if notifications.name not in self._statements:
            self._statements[notifications.name] = self._merging()
        await connection.execute(self._statements[notifications.name], rows)
        await self._refuse_strangers(connection, rows)

    async def _refuse_strangers(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """An id is one notification's, of one merchant: what is told of another's under it must not become what is sent
        to this one. Looked at after the rows were written, which nobody else can until the transaction ends.
        """
        for first in range(0, len(rows), _AT_ONCE):
            piece = {row["id"] for row in rows[first : first + _AT_ONCE]}
            owners = await connection.execute(_OWNERS, {"ids": sorted(piece)})
            owner = {one.id: one.merchant for one in owners}
            for row in rows[first : first + _AT_ONCE]:
                if row["merchant"] and owner[row["id"]] != row["merchant"]:
                    raise BadFact(
                        f"notification {row['id']} is merchant {owner[row['id']]}'s, and this tells of merchant "
                        f"{row['merchant']}: ids must differ from merchant to merchant"
                    )

    def _merging(self) -> Any:
        """INSERT of what a fact says, or UPDATE of what more it says than the row."""
        insert = self._database.insert(notifications)
        old, new = notifications.c, insert.excluded
        most, least = ("max", "min") if self._database.dialect == "sqlite" else ("greatest", "least")
        changed: dict[str, Any] = {
            "merchant": case((old.merchant == "", new.merchant), else_=old.merchant),
            "accepted_at": getattr(func, least)(old.accepted_at, new.accepted_at),
            "updated_at": getattr(func, most)(old.updated_at, new.updated_at),
            "run": getattr(func, most)(old.run, new.run),
            "attempts": old.attempts + new.attempts,
        }
        for place, names in _GROUPS.items():
            newer = new[place] > old[place]
            changed |= {name: case((newer, new[name]), else_=old[name]) for name in (place, *names)}
        return insert.on_conflict_do_update(index_elements=["id"], set_=changed)


def _known(told: Iterable[Read], made: set[str], noted: set[str]) -> Iterable[bool]:
    """For each fact whether it was known before, or came earlier in the same batch."""
    for one in told:
        fresh, key = (made, one.attempt["attempt"]) if one.attempt else (noted, one.id)
        yield key not in fresh
        fresh.discard(key)
