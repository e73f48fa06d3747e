"""The tables, made by one history of migrations on both databases, by several at once, and never over others'."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from notifier.errors import DatabaseMismatch, DatabaseUnavailable
from notifier.ledger import migrating
from notifier.ledger.database import Database
from notifier.ledger.migrating import migrate
from notifier.ledger.schema import metadata


async def run(url: str, *statements: str) -> None:
    database = await Database.open(url)
    async with database.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await database.close()


async def test_the_migrations_make_the_tables_that_the_schema_says(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(
            compare_metadata(
                MigrationContext.configure(
                    connection, opts={"compare_type": True, "version_table": migrating.VERSION_TABLE}
                ),
                metadata,
            )
        )

    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []


def test_the_newest_revision_is_the_one_that_alembic_would_make() -> None:
    history = ScriptDirectory(str(migrating.MIGRATIONS))
    assert history.get_heads() == [migrating.head()]


async def test_migrating_says_what_was_and_what_is(database_url: str) -> None:
    assert await migrate(database_url) == (None, migrating.head())
    assert await migrate(database_url) == (migrating.head(), migrating.head())


async def test_several_machines_migrate_at_once_and_one_of_them_does_it(database_url: str) -> None:
    done = await asyncio.gather(*(migrate(database_url) for _ in range(4)))
    assert sorted(str(before) for before, _ in done) == [*[migrating.head()] * 3, "None"]


async def test_a_new_file_is_opened_by_one_migration_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite does not wait for another that puts a new file into WAL mode: it fails with "database is locked"
    file = tmp_path / "ledger.db"
    opened = []
    open_database = Database.open

    def is_locked() -> bool:
        with open(f"{file}.migrating") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        return True

    async def open_and_look(url: str, **ways: bool) -> Database:
        opened.append(is_locked())
        return await open_database(url, **ways)

    monkeypatch.setattr(Database, "open", open_and_look)
    await asyncio.gather(*(migrate(f"sqlite:///{file}") for _ in range(3)))
    assert opened == [True] * 3


async def test_a_migrated_database_passes_the_check(database: Database) -> None:
    await migrating.check(database, "it")


async def test_a_database_without_tables_is_told_apart_and_how_it_gets_them(database_url: str) -> None:
    database = await Database.open(database_url)
    with pytest.raises(DatabaseMismatch, match="no tables of notifier yet: run `notifier migrate`"):
        await migrating.check(database, "it")
    await database.close()


async def test_a_newer_database_is_left_alone(ledger_url: str, database: Database) -> None:
    await run(ledger_url, "UPDATE ledger_revision SET version_num = '9999'")
    with pytest.raises(DatabaseMismatch, match="newer version of notifier"):
        await migrate(ledger_url)
    with pytest.raises(DatabaseMismatch, match="newer version of notifier"):
        await migrating.check(database, "it")


async def test_tables_of_another_program_are_left_alone(database_url: str) -> None:
    await run(database_url, "CREATE TABLE notifications (id INTEGER)", "INSERT INTO notifications VALUES (7)")
    with pytest.raises(DatabaseMismatch, match=r"tables of something else \(notifications\)"):
        await migrate(database_url)
    await run(database_url, "INSERT INTO notifications VALUES (8)")  # still its own, with its one column


async def test_a_migration_that_fails_leaves_nothing_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_table", _after(3, op.create_table, fail))
        with pytest.raises(RuntimeError, match="in the middle"):
            await migrate(database_url)
    assert await migrate(database_url) == (None, migrating.head())


async def test_sqlite_keeps_its_file_and_directory_to_its_user(tmp_path: Path) -> None:
    place = tmp_path / "state" / "of mine"
    database = None
    await migrate(f"sqlite:///{place}/ledger.db")
    try:
        database = await Database.open(f"sqlite:///{place}/ledger.db")
        async with database.begin() as connection:
            await connection.execute(text("INSERT INTO leases VALUES ('a', 'b', 0)"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [place, *place.glob("ledger.db*")]}
    finally:
        assert database is not None
        await database.close()
    assert modes.pop("of mine") == 0o700
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}


async def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="there is no database"):
        await Database.open(f"sqlite:///{tmp_path}/ledger.db", read_only=True)
    assert os.listdir(tmp_path) == []


def _after(number: int, first: Any, then: Any) -> Any:
    """A function that is `first` so many times, and `then` from there on."""
    left = iter([first] * number)
    return lambda *arguments, **named: next(left, then)(*arguments, **named)
