"""Bringing the database to the tables of this version, once, whoever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect

from notifier.errors import DatabaseMismatch, DatabaseUnavailable
from notifier.ledger.database import Database, driver_url, place
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
    database = await Database.open(url)
    try:
        async with _alone(url), database.begin() as connection:
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
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert newest is not None
    return newest


def configured(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


@contextlib.asynccontextmanager
async def _alone(url: str) -> AsyncIterator[None]:
    """SQLite's driver cannot wait for the lock in the middle of a migration, so those of one machine queue here."""
    address = driver_url(url)
    if address.get_backend_name() != "sqlite":
        yield
        return
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
    try:
        command.upgrade(configured(connection), "head")
    except CommandError as error:
        raise DatabaseMismatch(f"the database {name} cannot be migrated: {error}") from error
    return before, head()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _is_known(revision: str) -> bool:
    script: Any = ScriptDirectory(str(MIGRATIONS))
    try:
        return script.get_revision(revision) is not None
    except (CommandError, ResolutionError):
        return False


def _otherwise(found: str | None, name: str) -> str:
    if found is None:
        return f"the database {name} has no tables of notifier yet: run `notifier migrate` (or `notifier run`) first"
    if _is_known(found):
        return f"the database {name} is of revision {found}, and {head()} is needed: run `notifier migrate`"
    return (
        f"the database {name} was made by a newer version of notifier (revision {found}, this one knows {head()}): "
        "use that version, or another database"
    )
