"""A ledger of a test: SQLite in a file, and what stands in it; facts as tier processes write them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from notifier.domain import fact
from notifier.domain.decision import Complete, Decision, Held, HoldReason
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.ledger.late import LateDatabase

TIER = Tier(1)


def url_of(directory: Path) -> str:
    """The address of the ledger in that directory."""
    return f"sqlite:///{directory}/ledger.db"


@asynccontextmanager
async def open_ledger(url: str) -> AsyncIterator[LateDatabase]:
    """Migrated and open for the length of the block."""
    database = LateDatabase(url)
    try:
        await database.start()
        await until(lambda: database.state()["database"] == "up", "the ledger to be open", timeout=30)
        yield database
    finally:
        await database.close()


async def rows(database: LateDatabase, query: str, **values: object) -> list[dict[str, Any]]:
    """What a query in plain SQL finds."""
    async with database.connect() as connection:
        return [dict(row._mapping) for row in await connection.execute(text(query), values)]


async def row(database: LateDatabase, notification: str) -> dict[str, Any]:
    """The row of a notification."""
    (found,) = await rows(database, "SELECT * FROM notifications WHERE id = :id", id=notification)
    return found


async def until(true: Callable[[], Any], what: str, timeout: float = 15) -> Any:
    """Asked again and again, since what a database holds is no event. true: may be a coroutine function."""
    try:
        async with asyncio.timeout(timeout):
            while True:
                found = true()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {timeout:g} s for {what}") from None


def notification(name: str, merchant: str = "m1", **given: Any) -> Notification:
    """One that stands at its first step, due now."""
    now_ms = int(time.time() * 1000)
    fields = {"ladder": Ladder((TIER,)), "enqueued_at": now_ms, "due_at": now_ms} | given
    return Notification(name, merchant, json.dumps({"of": name}).encode(), **fields)


def attempts(of: Notification, decision: Decision | None = None, tier: Tier = TIER) -> list[dict[str, Any]]:
    """The facts of one attempt and what it came to, as they stand on the wire."""
    now_ms, decision = int(time.time() * 1000), decision or Complete()
    attempted = fact.attempted(of, tier, Outcome.ok(), decision, started_ms=now_ms, now_ms=now_ms)
    concluded = fact.concluded(of, tier, decision, now_ms)
    return decoded(attempted, *([concluded] if concluded else []))


def held(of: Notification, reason: HoldReason = HoldReason.BLOCKED, tier: Tier = TIER) -> list[dict[str, Any]]:
    """The fact that it is held, as it stands on the wire."""
    concluded = fact.concluded(of, tier, Held(reason, "for a test"), int(time.time() * 1000))
    assert concluded is not None
    return decoded(concluded)


def decoded(*facts: fact.Fact) -> list[dict[str, Any]]:
    """As they stand on the wire."""
    told: list[dict[str, Any]] = json.loads(fact.encode(facts))
    return told


def body(facts: Sequence[Any]) -> bytes:
    """The body of a message on the ledger queue."""
    return json.dumps(list(facts)).encode()
