"""Bringing the database to the tables of this version, once, whoever comes first.

Alembic is imported only where there is something to change: it takes longer than all else that a start imports, and
most starts find the tables as they should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from notifier.errors import DatabaseMismatch, DatabaseUnavailable
from notifier.ledger.database import Database, driver_url, place, see_to
from notifier.ledger.schema import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
#: The number under which PostgreSQL keeps those apart who want to migrate the same database; it means nothing else.
_LOCK = 6_861_697_470_128
#: Where the revision is kept: not under Alembic's own name, so that others' tables may stand in a PostgreSQL database.
VERSION_TABLE = "ledger_revision"


async def migrate(url: str) -> tuple[str | None, str]:
    """Make or change the tables; returns the revision before (None: there was nothing) and after.

    Safe while others do the same: they wait for each other, and the later ones find nothing to do. Raises
    DatabaseMismatch for a database of a newer version or of something else, DatabaseUnavailable.
    """
    async with _alone(url):
        database = await Database.open(url, patient=True)
        try:
            async with database.begin() as connection:
                if database.dialect == "postgresql":
                    await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                return await connection.run_sync(_upgrade, place(driver_url(url)))
        finally:
            await database.close()


async def check(database: Database, name: str) -> None:
    """Raise DatabaseMismatch unless the tables are this version's; nothing is changed. name: for the sentence."""
    async with database.connect() as connection:
        found = await connection.run_sync(_revision)
    if found != head():
        raise DatabaseMismatch(_otherwise(found, name))


def head() -> str:
    """The revision that this version of notifier works with."""
    return _known()[-1]


@contextlib.asynccontextmanager
async def _alone(url: str) -> AsyncIterator[None]:
    """SQLite's driver cannot wait for the lock in the middle of a migration, nor for others that put a new file into
    WAL mode at the same moment, so those of one machine queue here.
    """
    address = driver_url(url)
    if address.get_backend_name() != "sqlite":
        yield
        return
    see_to(Path(address.database or ""), read_only=False)
    file = f"{address.database}.migrating"
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(
            f"{file}, which keeps two migrations apart, cannot be used: {error.strerror}"
        ) from None
    try:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _upgrade(connection: Connection, name: str) -> tuple[str | None, str]:
    before = _revision(connection)
    if before is None and (foreign := set(inspect(connection).get_table_names()) & set(metadata.tables)):
        raise DatabaseMismatch(
            f"the database {name} holds tables of something else ({', '.join(sorted(foreign))}): name an empty one in "
            "NOTIFIER_DATABASE_URL"
        )
    if before is not None and not _is_known(before):
        raise DatabaseMismatch(_otherwise(before, name))
    if before != head():
        _run_migrations(connection, name)
    return before, head()


def _run_migrations(connection: Connection, name: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()  # without a file
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseMismatch(f"the database {name} cannot be migrated: {error}") from error


def _revision(connection: Connection) -> str | None:
    """What the database says; None where no migration ever ran."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one_or_none()  # noqa: S608  a constant
    return None if found is None else str(found)


def _known() -> list[str]:
    """The revisions that this version can make, oldest first: each is a file `REVISION_what.py`, numbered on."""
    return sorted(file.stem.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _is_known(revision: str) -> bool:
    return revision in _known()


def _otherwise(found: str | None, name: str) -> str:
    if found is None:
        return f"the database {name} has no tables of notifier yet: run `notifier migrate` (or `notifier run`) first"
    if _is_known(found):
        return f"the database {name} is of revision {found}, and {head()} is needed: run `notifier migrate`"
    return (
        f"the database {name} was made by a newer version of notifier (revision {found}, this one knows {head()}): "
        "use that version, or another database"
    )
