"""What is held: which of it may have lost its reason, taking it in hand, and when its time is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, TextClause, and_, func, or_, select, text, update

from notifier.domain.decision import HoldReason
from notifier.ledger.database import Database
from notifier.ledger.schema import HELD, events, merchants, notifications

#: The reasons that the registry ends.
REASONS = (HoldReason.DISABLED, HoldReason.BLOCKED, HoldReason.UNKNOWN_MERCHANT)
#: Milliseconds after a release in which what is held again at once is left alone: doubled with every run, to a bound.
FIRST_REST, LONGEST_REST = 4_000, 600_000
#: As the indexes of what is held say it: a planner sees no more than that.
_HELD = text(HELD)

_WHOLE = (
    notifications.c.id,
    notifications.c.merchant,
    notifications.c.reference,
    notifications.c.url,
    notifications.c.ladder,
    notifications.c.content_type,
    notifications.c.headers,
    notifications.c.payload,
    notifications.c.accepted_at,
    notifications.c.status,
    notifications.c.stands,
    notifications.c.stands_why,
    notifications.c.run,
    notifications.c.attempts,
    notifications.c.step,
    notifications.c.tier,
    notifications.c.due_at,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A notification as the ledger has it, payload and all. Moments are Unix milliseconds.

    stands, stands_why: how its newest run stands, and what it is held for. It is what may happen next that follows
    them; `status` says completed of what was delivered in any run.
    """

    id: str
    merchant: str
    reference: str | None
    url: str | None
    ladder: str | None
    content_type: str | None
    headers: str | None
    payload: bytes | None
    accepted_at: int
    status: str
    stands: str
    stands_why: str | None
    run: int
    attempts: int
    step: int | None
    tier: str | None
    due_at: int | None


async def stored(database: Database, notification: str) -> Stored | None:
    """One notification; None for an id that the ledger does not know. Raises DatabaseUnavailable."""
    async with database.connect() as connection:
        row = (await connection.execute(select(*_WHOLE).where(notifications.c.id == notification))).first()
    return None if row is None else _stored(row)


async def hopeful(database: Database, now_ms: int) -> list[str]:
    """Merchants with something held that may be called again, as far as the database can say by itself.

    Not every one of them may be: whoever releases looks at each notification once more. Raises DatabaseUnavailable.
    """
    registered = and_(merchants.c.id.is_not(None), merchants.c.body.is_not(None))
    callable_again = or_(
        and_(registered, merchants.c.standing == "enabled"),
        and_(merchants.c.standing == "blocked", merchants.c.until <= now_ms),
        and_(or_(merchants.c.id.is_(None), merchants.c.body.is_(None)), notifications.c.url.is_not(None)),
    )
    query = (
        select(notifications.c.merchant)
        .distinct()
        .select_from(notifications.outerjoin(merchants, merchants.c.id == notifications.c.merchant))
        .where(*_may_be_released(now_ms), callable_again)
    )
    async with database.connect() as connection:
        return [row.merchant for row in await connection.execute(query)]


async def take_in_hand(database: Database, merchant: str, now_ms: int, limit: int) -> list[Stored]:
    """The merchant's oldest held ones that are not in anybody's hand; for some seconds nobody else gets them.

    Raises DatabaseUnavailable.
    """
    query = (
        select(*_WHOLE)
        .where(notifications.c.merchant == merchant, *_may_be_released(now_ms))
        .order_by(notifications.c.accepted_at)
        .limit(limit)
    )
    async with database.begin() as connection:
        found = [_stored(row) for row in await connection.execute(query)]
        mine: set[str] = set()
        for run in {each.run for each in found}:
            ids = [each.id for each in found if each.run == run]
            taken = (
                update(notifications)
                .where(notifications.c.id.in_(ids), *_may_be_released(now_ms))
                .values(release_after=now_ms + rest(run))
                .returning(notifications.c.id)
            )
            mine |= {row.id for row in await connection.execute(taken)}
    return [each for each in found if each.id in mine]


def rest(run: int) -> int:
    """Milliseconds before what was released in this run may be released again."""
    return int(min(LONGEST_REST, FIRST_REST << min(run, 20)))


async def held_since(database: Database, ids: Sequence[str]) -> dict[str, int]:
    """When each was first held, after its last replay. Raises DatabaseUnavailable."""
    replayed = (
        select(events.c.notification, func.max(events.c.at).label("at"))
        .where(events.c.notification.in_(ids), events.c.kind == "replayed")
        .group_by(events.c.notification)
        .subquery()
    )
    query = (
        select(events.c.notification, func.min(events.c.at).label("since"))
        .select_from(events.outerjoin(replayed, replayed.c.notification == events.c.notification))
        .where(
            events.c.notification.in_(ids),
            events.c.kind == "held",
            or_(replayed.c.at.is_(None), events.c.at >= replayed.c.at),
        )
        .group_by(events.c.notification)
    )
    async with database.connect() as connection:
        return {row.notification: row.since for row in await connection.execute(query)}


async def long_held(database: Database, before_ms: int, after: tuple[int, str], limit: int) -> list[Stored]:
    """What is held for any reason and was accepted before that moment, in order of (accepted_at, id), after that place.

    Without payloads. Raises DatabaseUnavailable.
    """
    at, last = after
    columns = [column for column in _WHOLE if column is not notifications.c.payload]
    query = (
        select(*columns)
        .where(
            _HELD,
            notifications.c.accepted_at < before_ms,
            or_(
                notifications.c.accepted_at > at,
                and_(notifications.c.accepted_at == at, notifications.c.id > last),
            ),
        )
        .order_by(notifications.c.accepted_at, notifications.c.id)
        .limit(limit)
    )
    async with database.connect() as connection:
        return [_stored(row) for row in await connection.execute(query)]


async def count(database: Database) -> int:
    """How many are held now. Raises DatabaseUnavailable."""
    query = select(func.count()).select_from(notifications).where(_HELD)
    async with database.connect() as connection:
        return int((await connection.execute(query)).scalar_one())


def _may_be_released(now_ms: int) -> tuple[ColumnElement[bool] | TextClause, ...]:
    return (
        _HELD,
        notifications.c.stands_why.in_([str(reason) for reason in REASONS]),
        or_(notifications.c.release_after.is_(None), notifications.c.release_after <= now_ms),
    )


def _stored(row: Any) -> Stored:
    columns: dict[str, Any] = {"payload": None, **row._mapping}
    return Stored(**columns)
