"""Faults of the ledger's database: it dies, is locked, is restarted, or its disk is full. Deliveries go on."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from tests.acceptance.truth import locked_exclusively
from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.verdict import Window

#: Seconds without a database.
AWAY = 6.0
#: Deliveries that must go on meanwhile: a few hundred notifications a second come.
_GO_ON = 100
_KNOWN = "SELECT id FROM notifications"


async def locked(field: Field, number: int) -> Window:
    """Another program has the SQLite file for itself."""
    began = time.time() * 1000
    file = Path(field.service.variables["NOTIFIER_STATE_DIR"]) / "ledger.db"
    async with locked_exclusively(file), _without_a_database(field):
        await asyncio.sleep(AWAY)  # the length of the lock is what is tested
    return await _written_again(field, began)


async def disk_full(field: Field, number: int) -> Window:
    """Not a byte is left where the SQLite file is."""
    assert field.around.small is not None
    began = time.time() * 1000
    await asyncio.to_thread(_emptied, field.around.small.place / "ledger.db")
    field.around.small.fill()
    try:
        async with _without_a_database(field):
            await asyncio.sleep(AWAY)  # the length of the shortage is what is tested
    finally:
        field.around.small.free()
    return await _written_again(field, began)


def _emptied(file: Path) -> None:
    """Give the file system back what SQLite keeps of it for its log: in that it could go on for a good while."""
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


async def killed(field: Field, number: int) -> Window:
    """kill -9 of PostgreSQL, which begins again after a while."""
    assert field.around.database is not None
    began = time.time() * 1000
    await field.around.database.kill()
    return await _begins_again(field, began)


async def restarted(field: Field, number: int) -> Window:
    """PostgreSQL is stopped as an administrator stops it, and begins again after a while."""
    assert field.around.database is not None
    began = time.time() * 1000
    await field.around.database.stop()
    return await _begins_again(field, began)


async def _begins_again(field: Field, began: float) -> Window:
    assert field.around.database is not None
    try:
        async with _without_a_database(field):
            await asyncio.sleep(AWAY)  # the time without it is what is tested
    finally:
        await field.around.database.start()
    return await _written_again(field, began)


@contextlib.asynccontextmanager
async def _without_a_database(field: Field) -> AsyncIterator[None]:
    """It bit when the ledger stands still and facts wait at the broker; nobody else may notice."""
    await asyncio.sleep(1)  # what the agent had in hand is written or given up
    came = len(field.receiver.arrivals)
    yield
    if known := await _known_since(field, time.time() * 1000 - 4000):
        raise DidNotBite(f"{known} notifications of the last seconds are in the ledger, which has no database")
    waiting = (await field.broker.depths(field.namespace))[f"{field.namespace}.ledger"]
    if not waiting:
        raise DidNotBite("no fact waits, although there is no database")
    if len(field.receiver.arrivals) < came + _GO_ON:
        raise AssertionError(f"only {len(field.receiver.arrivals) - came} deliveries were made without a database")


async def _known_since(field: Field, began: float) -> int:
    """How many of those that were handed in since then, until a second ago, are in the ledger; 0 without one."""
    recent = {each.id for each in field.load.sent if began <= (each.began or 0) <= time.time() * 1000 - 1000}
    try:
        return len(recent & {row[0] for row in await field.books.rows(_KNOWN)})
    except (OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError):
        return 0


async def _written_again(field: Field, began: float) -> Window:
    """Wait until the ledger has caught up with what was handed in during the fault. Nothing may come twice for it."""
    wanted = {each.id for each in field.load.sent if each.confirmed and (each.began or 0) >= began}
    async with asyncio.timeout(90):
        while wanted - {row[0] for row in await field.books.rows(_KNOWN)}:  # noqa: ASYNC110  a database tells nobody
            await asyncio.sleep(0.2)
    return Window(began, began, time.time() * 1000)
