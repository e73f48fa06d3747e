"""What is held: which of it may have lost its reason, taking it in hand, and when its time is up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
    update,
)

from notifier.ledger.database import Database
from notifier.ledger.schema import HELD, HELD_FOR_ROOM, HELD_WITH_URL, RELEASED, events, merchants, notifications

#: Milliseconds after a try to release in which what is held again at once, or could not go on, is left alone: doubled
#: with every try that led to no attempt, to a bound.
FIRST_REST, LONGEST_REST = 4_000, 600_000
#: Milliseconds for which what was released counts as on its way. What has not been attempted by then hinders no other:
#: its message may be lost, its tier paused.
ON_ITS_WAY = 60_000
#: As the indexes of what is held say it: a planner sees no more than that.
_HELD, _HELD_WITH_URL, _HELD_FOR_ROOM, _RELEASED = map(text, (HELD, HELD_WITH_URL, HELD_FOR_ROOM, RELEASED))
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


def _at_rest_no_more() -> ColumnElement[bool]:
    """At the moment `now`. What was attempted since its last release is held for a new reason, and has nothing to rest
    from.
    """
    return or_(
        notifications.c.release_after.is_(None),
        notifications.c.release_after <= bindparam("now", type_=BigInteger),
        notifications.c.attempts > notifications.c.released_attempts,
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


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """What of one merchant was released lately and has not been attempted since, as far as is known.

    there: so many are with the broker, or in a tier process. back: of those that rest, since they were held again
    without an attempt for want of room or by a breaker, when the newest was released, Unix milliseconds; None: there
    are none.
    """

    there: int = 0
    back: int | None = None


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
    async with database.connect() as connection:
        found = await connection.execute(_hopeful(needs_url), {"now": now_ms})
        return [row.merchant for row in found]


@lru_cache
def _hopeful(needs_url: bool) -> Select[Any]:
    """To make a statement takes as long as to execute it, and this one is asked several times a second."""
    now = bindparam("now", type_=BigInteger)
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
        and_(merchants.c.standing == "blocked", merchants.c.until <= now),
    )
    own = notifications.c.merchant == waiting.c.merchant
    something = exists().where(own, _HELD, _at_rest_no_more()).correlate(waiting)
    if needs_url:
        with_url = exists().where(own, _HELD_WITH_URL, _at_rest_no_more()).correlate(waiting)
        something = or_(and_(_REGISTERED_URL, something), with_url)  # type: ignore[assignment]  # a condition, too
    return (
        select(waiting.c.merchant)
        .select_from(waiting.outerjoin(merchants, merchants.c.id == waiting.c.merchant))
        .where(waiting.c.merchant.is_not(None), callable_again, something)
    )


async def take_in_hand(database: Database, most: Mapping[str, int], now_ms: int, *, needs_url: bool) -> list[Stored]:
    """The oldest held ones of these merchants that are not in anybody's hand, of each at most so many; for some seconds
    nobody else gets them, and for longer each time. From now on they count as on their way. All in one transaction.
    needs_url: see hopeful. Raises DatabaseUnavailable.
    """
    async with database.begin() as connection:
        anyhow = set(most)
        if needs_url:
            anyhow = set((await connection.execute(_WITH_AN_ADDRESS, {"of": list(most)})).scalars())
        found: list[Any] = []
        for merchant, limit in most.items():
            oldest = _oldest(merchant not in anyhow)
            found += (await connection.execute(oldest, {"of": merchant, "most": limit, "now": now_ms})).all()
        mine: set[str] = set()
        for tries in {_tries(row) for row in found}:
            ids = [row.id for row in found if _tries(row) == tries]
            taken = {"ids": ids, "now": now_ms, "after": now_ms + rest(tries), "tries": tries + 1}
            mine |= {row.id for row in await connection.execute(_TAKE, taken)}
    return [_stored(row) for row in found if row.id in mine]


_WITH_AN_ADDRESS = select(merchants.c.id).where(
    merchants.c.id.in_(bindparam("of", type_=String, expanding=True)), _REGISTERED_URL
)
_TAKE = (
    update(notifications)
    .where(notifications.c.id.in_(bindparam("ids", type_=String, expanding=True)), _HELD, _at_rest_no_more())
    .values(
        release_after=bindparam("after", type_=BigInteger),
        release_tries=bindparam("tries", type_=Integer),
        released_at=bindparam("now", type_=BigInteger),
        released_attempts=notifications.c.attempts,
    )
    .returning(notifications.c.id)
)


@lru_cache
def _oldest(with_url: bool) -> Select[Any]:
    """Of the merchant `of`, `most` at most."""
    of, most = bindparam("of", type_=String), bindparam("most", type_=Integer)
    return (
        select(*_WHOLE, notifications.c.release_tries, notifications.c.released_attempts)
        # not `=`: PostgreSQL would go through what is held of all merchants in the order of time
        .where(notifications.c.merchant.between(of, of))
        .where(_HELD_WITH_URL if with_url else _HELD, _at_rest_no_more())
        .order_by(notifications.c.merchant, notifications.c.accepted_at)
        .limit(most)
    )


async def put_back(database: Database, ids: Sequence[str]) -> None:
    """What was taken in hand and could not go on: it rests, but is not on its way. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        await connection.execute(update(notifications).where(notifications.c.id.in_(ids)).values(released_at=None))


def rest(tries: int) -> int:
    """Milliseconds before what was to be released in vain so many times before this one may be released again."""
    return int(min(LONGEST_REST, FIRST_REST << min(tries, 20)))


#: Reasons of which nobody tells the agent when they end.
_FULL = frozenset({"no-room", "breaker-open"})
_ON_THEIR_WAY = select(
    notifications.c.merchant, notifications.c.stands, notifications.c.stands_why, notifications.c.released_at
).where(
    _RELEASED,
    notifications.c.released_at > bindparam("since", type_=BigInteger),
    notifications.c.attempts <= notifications.c.released_attempts,
    or_(notifications.c.stands == "accepted", notifications.c.release_after > bindparam("now", type_=BigInteger)),
)


async def on_their_way(database: Database, now_ms: int) -> Mapping[str, OnTheWay]:
    """Of each merchant, what was released within ON_ITS_WAY.

    Costs a look at each that counts, however much is held. Raises DatabaseUnavailable.
    """
    moments = {"now": now_ms, "since": now_ms - ON_ITS_WAY}
    async with database.connect() as connection:
        # GROUP BY would have SQLite go through all there is
        found = (await connection.execute(_ON_THEIR_WAY, moments)).all()
    there: Counter[str] = Counter()
    back: dict[str, int] = {}
    for merchant, stands, why, released_at in found:
        if stands == "accepted":
            there[merchant] += 1
        elif why in _FULL:
            back[merchant] = max(back.get(merchant, 0), released_at)
    return {merchant: OnTheWay(there[merchant], back.get(merchant)) for merchant in there.keys() | back.keys()}


async def wait_for_room(database: Database, places: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the (tier, merchant) for which something is held for want of room. Raises DatabaseUnavailable."""
    waiting = set()
    async with database.connect() as connection:
        for tier, merchant in places:
            # the first from that tier on: asked for exactly this one, PostgreSQL may read the whole table to find none
            first = (
                select(notifications.c.tier)
                .where(_HELD_FOR_ROOM, notifications.c.merchant == merchant, notifications.c.tier >= tier)
                .order_by(notifications.c.tier)
                .limit(1)
            )
            if (await connection.execute(first)).scalar() == tier:
                waiting.add((tier, merchant))
    return waiting


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


def _tries(row: Any) -> int:
    """Releases that led to no attempt, one after the other."""
    attempted = row.released_attempts is not None and row.attempts > row.released_attempts
    return 0 if attempted else int(row.release_tries)


def _stored(row: Any) -> Stored:
    columns: dict[str, Any] = {"payload": None, **row._mapping}
    for other in ("release_tries", "released_attempts"):
        columns.pop(other, None)
    return Stored(**columns)
