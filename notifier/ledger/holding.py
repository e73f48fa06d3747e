"""What is held: which of it may have lost its reason, taking it in hand, and when its time is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, TextClause, and_, exists, func, or_, select, text, update

from notifier.domain.decision import HoldReason
from notifier.ledger.database import Database
from notifier.ledger.schema import HELD, events, merchants, notifications

#: The reasons that the registry ends.
REASONS = (HoldReason.DISABLED, HoldReason.BLOCKED, HoldReason.UNKNOWN_MERCHANT)
#: Milliseconds after a try to release in which what is held again at once, or could not go on, is left alone: doubled
#: with every try, to a bound.
FIRST_REST, LONGEST_REST = 4_000, 600_000
#: As the indexes of what is held say it: a planner sees no more than that.
_HELD = text(HELD)
#: Of a merchant that is registered, and not removed.
_REGISTERED_URL = and_(merchants.c.body.is_not(None), merchants.c.url.is_not(None))

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


async def hopeful(database: Database, now_ms: int, *, needs_url: bool) -> list[str]:
    """Merchants with something held that may be called again, as far as the database can say by itself.

    needs_url: whether there is nowhere to call without a url, of the notification's own or the merchant's. Costs a look
    into an index for each merchant with something held, however much that is. Raises DatabaseUnavailable.

    Not every one of them may be: whoever releases looks at each notification once more.
    """
    first = select(func.min(notifications.c.merchant).label("merchant")).where(_HELD).cte("waiting", recursive=True)
    following = (
        select(func.min(notifications.c.merchant))
        .where(_HELD, notifications.c.merchant > first.c.merchant)
        .correlate(first)
        .scalar_subquery()
    )
    waiting = first.union_all(select(following).where(first.c.merchant.is_not(None)))
    callable_again = or_(
        merchants.c.id.is_(None),
        merchants.c.body.is_(None),
        merchants.c.standing == "enabled",
        and_(merchants.c.standing == "blocked", merchants.c.until <= now_ms),
    )
    something = exists().where(
        notifications.c.merchant == waiting.c.merchant,
        *_may_be_released(now_ms),
        *([or_(notifications.c.url.is_not(None), _REGISTERED_URL)] if needs_url else []),
    )
    query = (
        select(waiting.c.merchant)
        .select_from(waiting.outerjoin(merchants, merchants.c.id == waiting.c.merchant))
        .where(waiting.c.merchant.is_not(None), callable_again, something.correlate(waiting, merchants))
    )
    async with database.connect() as connection:
        return [row.merchant for row in await connection.execute(query)]


async def take_in_hand(database: Database, merchant: str, now_ms: int, limit: int, *, needs_url: bool) -> list[Stored]:
    """The merchant's oldest held ones that are not in anybody's hand; for some seconds nobody else gets them, and for
    longer each time. needs_url: see hopeful. Raises DatabaseUnavailable.
    """
    registered = exists().where(merchants.c.id == merchant, _REGISTERED_URL)
    query = (
        select(*_WHOLE, notifications.c.release_tries)
        .where(
            notifications.c.merchant == merchant,
            *_may_be_released(now_ms),
            *([or_(notifications.c.url.is_not(None), registered)] if needs_url else []),
        )
        .order_by(notifications.c.accepted_at)
        .limit(limit)
    )
    async with database.begin() as connection:
        found = (await connection.execute(query)).all()
        mine: set[str] = set()
        for tries in {row.release_tries for row in found}:
            ids = [row.id for row in found if row.release_tries == tries]
            taken = (
                update(notifications)
                .where(notifications.c.id.in_(ids), *_may_be_released(now_ms))
                .values(release_after=now_ms + rest(tries), release_tries=tries + 1)
                .returning(notifications.c.id)
            )
            mine |= {row.id for row in await connection.execute(taken)}
    return [_stored(row) for row in found if row.id in mine]


def rest(tries: int) -> int:
    """Milliseconds before what was to be released so many times before this one may be released again."""
    return int(min(LONGEST_REST, FIRST_REST << min(tries, 20)))


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
    columns.pop("release_tries", None)
    return Stored(**columns)
