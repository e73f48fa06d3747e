"""One door to the ledger's database, SQLite or PostgreSQL, and what "not now" means there.

A driver has dozens of errors for one thing that its caller can do something about: wait and try again. Each of them
becomes DatabaseUnavailable; an error that lies in what was asked passes as SQLAlchemy's own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from notifier.errors import DatabaseUnavailable

#: Seconds that a writer waits for another one on SQLite, and anybody for a connection to PostgreSQL.
PATIENCE = 5.0
#: Seconds for one statement on PostgreSQL: a server that stopped answering must not hold a caller for ever.
STATEMENT = 30.0
_CONNECTIONS = 5

#: Primary result codes of SQLite that say nothing about the statement (https://www.sqlite.org/rescode.html).
_NOT_NOW_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
#: Classes of SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html): connection, login, rollback,
#: resources, prerequisite state (a lock), intervention of an operator, system.
_NOT_NOW_POSTGRESQL = ("08", "28", "3D", "40", "53", "55", "57", "58")
_READ_ONLY = "25006"


class Database:
    """A pool of connections. Any number of tasks may use it at once; one object per process."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Use `open`."""
        self._engine = engine

    @classmethod
    async def open(cls, url: str, *, read_only: bool = False) -> Database:
        """Open it and make sure that it answers. read_only: nothing can be written through it.

        A SQLite file that is missing is made, readable by this user alone, in a directory that is made likewise; not
        so when read_only. Raises DatabaseUnavailable.
        """
        address = driver_url(url)
        if address.get_backend_name() == "sqlite":
            engine = _open_sqlite(Path(address.database or ""), read_only)
        else:
            engine = _open_postgresql(address, read_only)
        database = cls(engine)
        try:
            async with database.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed at the end, undone by any error.

        On SQLite it is the only one that writes from its first statement on, so it cannot fail half-way for another's
        sake. Raises DatabaseUnavailable; whether it was committed then is not known.
        """
        with _told(self._engine):
            async with self._engine.connect() as connection:
                await connection.execution_options(notifier_writes=True)
                async with connection.begin():
                    yield connection

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads: one moment of the database. Raises DatabaseUnavailable."""
        with _told(self._engine):
            async with self._engine.connect() as connection, connection.begin():
                yield connection

    def insert(self, table: Table) -> Any:
        """INSERT in the dialect that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return (sqlite if self.dialect == "sqlite" else postgresql).insert(table)

    async def close(self) -> None:
        """Close all connections. Twice is fine."""
        await self._engine.dispose()


def driver_url(url: str) -> URL:
    """The address as SQLAlchemy wants it, with the asynchronous driver named."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        return address.set(drivername="sqlite+aiosqlite")
    return address.set(drivername="postgresql+asyncpg")


def place(url: URL) -> str:
    """Which database, for people, without its password."""
    return url.database or "" if url.get_backend_name() == "sqlite" else f"{url.host or 'the socket'}/{url.database}"


def _open_sqlite(file: Path, read_only: bool) -> AsyncEngine:
    try:
        if read_only:
            if not file.exists():
                raise DatabaseUnavailable(
                    f"there is no database {file}: `notifier run` makes it, or NOTIFIER_DATABASE_URL names another one"
                )
        else:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseUnavailable(f"the ledger's database {file} cannot be used: {error.strerror}") from None
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file)),
        connect_args={"timeout": PATIENCE},
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=PATIENCE * 2,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepared(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        cursor = connection.cursor()
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        else:
            cursor.execute("PRAGMA journal_mode=WAL")
            # In WAL, NORMAL survives the death of the process; the last commits may be lost with the machine's power,
            # FULL writes them to the disk first. A fact is acknowledged after its commit: so FULL.
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:
        writes = connection.get_execution_options().get("notifier_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _open_postgresql(address: URL, read_only: bool) -> AsyncEngine:
    arguments = {
        "timeout": PATIENCE,
        "command_timeout": STATEMENT,
        "server_settings": {
            "application_name": "notifier",
            "default_transaction_read_only": "on" if read_only else "off",
        },
    }
    return create_async_engine(
        address,
        connect_args=arguments,
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        pool_timeout=PATIENCE,
        pool_pre_ping=True,
    )


@contextlib.contextmanager
def _told(engine: AsyncEngine) -> Iterator[None]:
    """Make of every "not now" one error with a sentence."""
    try:
        yield
    except DBAPIError as error:
        if not _is_not_now(error):
            raise
        raise _unavailable(engine, str(error.orig or error)) from error
    except PoolTimeout as error:
        raise _unavailable(engine, "all connections to it are busy") from error
    except (OSError, TimeoutError) as error:  # asyncpg lets what happens while it connects through as it is
        raise _unavailable(engine, str(error) or type(error).__name__) from error
    except SQLAlchemyError:
        raise
    except Exception as error:
        if getattr(error, "sqlstate", None) is None and not type(error).__module__.startswith("asyncpg"):
            raise
        raise _unavailable(engine, str(error)) from error


def _is_not_now(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    original: Any = error.orig
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        return (code & 0xFF) in _NOT_NOW_SQLITE
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return state == _READ_ONLY or str(state)[:2] in _NOT_NOW_POSTGRESQL
    return type(original).__name__ in ("InterfaceError", "OperationalError", "ProgrammingError") and (
        "closed" in str(original) or "connection" in str(original).lower()
    )


def _unavailable(engine: AsyncEngine, why: str) -> DatabaseUnavailable:
    said = " ".join(why.split())[:300]
    return DatabaseUnavailable(f"the ledger's database {place(engine.url)} cannot be used just now: {said}")
