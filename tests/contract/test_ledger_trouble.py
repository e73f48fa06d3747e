"""What a database cannot do now is one error with a sentence; what lies in the statement stays SQLAlchemy's own."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from notifier.errors import DatabaseUnavailable
from notifier.ledger import database as door
from notifier.ledger import late, notifications, unavailable
from notifier.ledger.database import Database
from notifier.ledger.migrating import migrate
from notifier.ledger.notifications import Filter
from notifier.ledger.writing import FactWriter
from tests import told
from tests.conftest import PostgresOnDemand
from tests.postgres import PrivatePostgres
from tests.told import notification

FACTS = [told.accepted(notification()), told.attempted(notification())]


@pytest.fixture
async def file(tmp_path: Path, sqlite_template: Path) -> Path:
    """A migrated ledger in a file."""
    return Path(shutil.copyfile(sqlite_template, tmp_path / "ledger.db"))


@pytest.fixture
async def ledger(file: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """Open, and impatient."""
    monkeypatch.setattr(door, "PATIENCE", 0.2)
    opened = await Database.open(f"sqlite:///{file}")
    yield opened
    await opened.close()


@pytest.fixture
async def server() -> AsyncIterator[PrivatePostgres]:
    """A PostgreSQL to be killed."""
    async with PrivatePostgres() as running:
        yield running


async def count(database: Database) -> int:
    return await notifications.count(database, Filter())


async def run(database: Database, statement: str) -> Any:
    async with database.connect() as connection:
        return (await connection.execute(text(statement))).scalar()


async def leases(database: Database) -> Any:
    return await run(database, "SELECT count(*) FROM leases")


async def take_leases(
    database: Database,
    *names: str,
    between: Callable[[], Awaitable[None]] | None = None,
    then: Callable[[], None] = lambda: None,
) -> None:
    """One after the other, in one transaction."""
    async with database.begin() as connection:
        for number, name in enumerate(names):
            if number and between:
                await between()
            await connection.execute(text("INSERT INTO leases VALUES (:name, 'a', 0)"), {"name": name})
        then()


async def test_a_locked_file_is_not_now_and_works_again_when_it_is_let_go(ledger: Database, file: Path) -> None:
    writer = FactWriter(ledger)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseUnavailable, match=r"ledger\.db cannot be used now: database is locked"):
            await writer.write(FACTS)
        assert await count(ledger) == 0  # reading goes on
        other.execute("ROLLBACK")
    assert (await writer.write(FACTS)).new == 2


async def test_a_writer_waits_for_another_process(file: Path) -> None:
    database = await Database.open(f"sqlite:///{file}")
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(FactWriter(database).write(FACTS))
        done, _ = await asyncio.wait([writing], timeout=0.3)
        assert not done
        other.execute("ROLLBACK")
        assert (await writing).new == 2
    await database.close()


async def test_writers_of_one_process_take_turns_instead_of_being_refused(ledger: Database) -> None:
    one_after_the_other = []

    async def write(number: int) -> None:
        async with ledger.begin() as connection:
            one_after_the_other.append(number)
            await connection.execute(text("INSERT INTO leases VALUES (:name, '', 0)"), {"name": str(number)})
            await asyncio.sleep(0)
            one_after_the_other.append(number)

    await asyncio.gather(*(write(number) for number in range(50)))
    assert one_after_the_other == [number for number in range(50) for _ in range(2)]


async def test_a_full_disk_is_not_now(ledger: Database) -> None:
    async with ledger.begin() as connection:
        await connection.execute(text("PRAGMA max_page_count = 1"))  # no more than there are already
    whole = [told.accepted(notification(f"ntf_{n}", payload=b"x" * 4000)) for n in range(50)]
    with pytest.raises(DatabaseUnavailable, match="database or disk is full"):
        await FactWriter(ledger).write(whole)
    assert await count(ledger) == 0


async def test_a_file_that_is_damaged_is_not_now(tmp_path: Path) -> None:
    broken = tmp_path / "ledger.db"
    broken.write_bytes(b"this is not a database, but it is long enough to be looked at" * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        await Database.open(f"sqlite:///{broken}")


async def test_a_directory_that_cannot_be_made_is_not_now(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(
        DatabaseUnavailable, match=r"state/ledger\.db cannot be used now: (Not a directory|File exists)"
    ):
        await Database.open(f"sqlite:///{tmp_path}/state/ledger.db")


async def test_what_was_opened_to_read_cannot_write(database: Database, ledger_url: str) -> None:
    reader = await Database.open(ledger_url, read_only=True)
    assert await count(reader) == 0
    with pytest.raises(DatabaseUnavailable, match=r"readonly|read-only"):
        await FactWriter(reader).write(FACTS)
    await reader.close()


async def test_tables_that_are_gone_are_not_the_fault_of_a_fact(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("DROP TABLE notifications"))
    with pytest.raises(DatabaseUnavailable, match=r"no such table|does not exist"):
        await FactWriter(database).write(FACTS)


async def test_an_error_that_lies_in_the_statement_or_its_values_stays_what_it_is(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await take_leases(database, "keeper", "keeper")
    with pytest.raises(DBAPIError):
        await run(database, "SELEKT 1")


async def test_what_lies_in_the_values_for_certain_is_told_from_what_may_be_over_the_next_time(
    database: Database,
) -> None:
    with pytest.raises(IntegrityError) as twice:
        await take_leases(database, "keeper", "keeper")
    assert unavailable.lies_in_values(twice.value)
    with pytest.raises(DBAPIError) as spelling:
        await run(database, "SELEKT 1")
    assert not unavailable.lies_in_values(spelling.value)
    assert not unavailable.lies_in_values(MemoryError())


async def test_an_error_of_the_callers_own_undoes_the_transaction_and_passes(database: Database) -> None:
    def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await take_leases(database, "keeper", then=fail)
    assert await leases(database) == 0


async def test_a_task_that_is_cancelled_in_a_transaction_leaves_nothing_and_nobody_waiting(database: Database) -> None:
    inside = asyncio.Event()

    async def write() -> None:
        async with database.begin() as connection:
            await connection.execute(text("INSERT INTO leases VALUES ('keeper', 'a', 0)"))
            inside.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await inside.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert (await FactWriter(database).write(FACTS)).new == 2
    assert await leases(database) == 0


async def test_a_killed_postgresql_is_not_now_and_back_after_its_start(server: PrivatePostgres) -> None:
    url = await server.new_database()
    await migrate(url)
    database = await Database.open(url)
    writer = FactWriter(database)
    await writer.write(FACTS[:1])
    await server.kill()
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable) as refused:
            await writer.write(FACTS)
        assert "127.0.0.1/test_" in str(refused.value)
        assert server.url().split(":")[2].split("@")[0] not in str(refused.value)  # the password
    await server.start()
    done = await writer.write(FACTS)
    assert (done.new, done.known) == (1, 1)
    await database.close()


async def test_a_postgresql_that_stops_in_the_middle_of_a_transaction_undoes_it(server: PrivatePostgres) -> None:
    url = await server.new_database()
    await migrate(url)
    database = await Database.open(url)
    with pytest.raises(DatabaseUnavailable):
        await take_leases(database, "keeper", "other", between=server.stop)
    await server.start()
    assert await leases(database) == 0
    await database.close()


async def test_a_postgresql_that_does_not_answer_is_not_waited_for_for_ever(
    server: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "PATIENCE", 0.3)
    server.freeze()
    try:
        with pytest.raises(DatabaseUnavailable, match="did not answer in time"):
            await Database.open(server.url())
    finally:
        server.thaw()


@pytest.mark.parametrize(("instead", "said"), [("@", "password"), ("/nowhere", "nowhere")])
async def test_a_postgresql_that_lets_nobody_in_says_why(postgres: PrivatePostgres, instead: str, said: str) -> None:
    url = postgres.url()
    url = url.replace("@", "wrong@") if instead == "@" else url.replace("/postgres", instead)
    with pytest.raises(DatabaseUnavailable, match=said):
        await Database.open(url)


async def test_a_statement_that_takes_too_long_is_not_waited_for(
    postgres: PrivatePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STATEMENT", 3)
    database = await Database.open(postgres.url())
    with pytest.raises(DatabaseUnavailable, match="did not answer in time"):
        await run(database, "SELECT pg_sleep(60)")
    assert await run(database, "SELECT 1") == 1
    await database.close()


async def test_an_error_of_a_statement_does_not_tell_what_was_in_it(ledger: Database) -> None:
    """Secrets of merchants and payloads are; and errors are logged."""
    with pytest.raises(DBAPIError) as caught:
        async with ledger.begin() as connection:
            await connection.execute(
                text("INSERT INTO tokens (id, digest) VALUES ('t', :digest)"), {"digest": "S3CRET"}
            )
    assert "S3CRET" not in str(caught.value)


def test_how_long_a_database_has_answered_is_no_matter_of_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merchants are given up only when it has answered for a while."""
    database = late.LateDatabase(f"sqlite:///{tmp_path}/ledger.db")
    assert database.up_for() == 0
    database.heard(None)
    wrong = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: wrong)
    assert 0 <= database.up_for() < 60


async def test_a_database_whose_opening_failed_for_any_reason_is_opened_when_the_reason_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "PROMPT", 0.3)
    blocked = tmp_path / "ledger.db.migrating"
    blocked.mkdir()
    database = late.LateDatabase(f"sqlite:///{tmp_path}/ledger.db")
    await database.start()
    async with asyncio.timeout(20):
        while True:
            if "ledger.db.migrating" in str(database.state()["database_why"]):
                break
            await asyncio.sleep(0.05)
    blocked.rmdir()
    async with asyncio.timeout(20):
        while True:
            try:
                async with database.connect():
                    break
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)
    assert database.state()["database"] == "up"
    await database.close()


async def test_a_deadlock_with_another_transaction_is_tried_again(postgres_on_demand: PostgresOnDemand) -> None:
    url = await postgres_on_demand.migrated()
    setting = await Database.open(url)
    async with setting.begin() as connection:  # time to get into its way, also on a busy machine
        await connection.execute(text(f"ALTER DATABASE \"{url.rpartition('/')[2]}\" SET deadlock_timeout = '5s'"))
    await setting.close()
    database = await Database.open(url)
    first, second = notification("a"), notification("b")
    await FactWriter(database).write([told.accepted(first), told.accepted(second)])
    async with database.begin() as connection:
        await connection.execute(text("SET LOCAL deadlock_timeout = '100s'"))  # it is the writer that finds out
        touch = text("UPDATE notifications SET release_after = 1 WHERE id = :id")
        await connection.execute(touch, {"id": "b"})
        writing = asyncio.create_task(FactWriter(database).write([told.held(first), told.held(second)]))
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        async with asyncio.timeout(20):
            while not await run(database, blocked):
                assert not writing.done()
        await connection.execute(touch, {"id": "a"})  # each has what the other wants: PostgreSQL ends the writer's
    assert (await writing).new == 2
    assert await run(database, "SELECT count(*) FROM notifications WHERE status = 'held' AND release_after = 1") == 2
    await database.close()
