"""One door to the ledger's database: SQLite in a file, or PostgreSQL. Whoever reads or writes it does so through it.

What is committed survives kill -9 of every process, and a power failure as far as the disk keeps what it says it has
kept: held notifications are nowhere else, so SQLite syncs at every commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from notifier.errors import DatabaseUnavailable
from notifier.ledger import unavailable

#: Seconds that a writer waits for one of another process on SQLite, and anybody to be connected to PostgreSQL.
PATIENCE = 5.0
#: Seconds for one statement on PostgreSQL: a server that stopped answering must not hold a caller for ever.
STATEMENT = 30.0
#: Connections, and seconds to wait for one of them.
_CONNECTIONS, _POOL_TIMEOUT = 5, 10.0
#: Pages (of 4 KiB) that gather in SQLite's log before they are moved into the file: less often, so more at once.
_CHECKPOINT = 4_000


class Database:
    """A pool of connections. Any number of tasks may use it at once; one object per process.

    Every error of a driver that means "not now" (connection lost or refused, locked, busy, full, read-only, shutting
    down) is a DatabaseUnavailable with a sentence, wherever it comes up; what lies in the statement or its values
    passes as SQLAlchemy's own.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Use `open`."""
        self._engine = engine
        self._writing = engine.execution_options(notifier_writes=True)
        # SQLite has one writer at a time. Those of this process queue here, in order: polling the file, as SQLite does,
        # lets one that writes again and again starve the others.
        self._turn: Any = asyncio.Lock() if self.dialect == "sqlite" else contextlib.nullcontext()

    @classmethod
    async def open(cls, url: str, *, read_only: bool = False, patient: bool = False) -> Database:
        """Open it and make sure that it answers. url: as in the settings. read_only: nothing can be written through it.
        patient: a statement may take as long as it takes, as one that makes an index of millions of rows.

        A SQLite file that is missing is made, readable by this user alone, in a directory that is made likewise; not
        so when read_only. Raises DatabaseUnavailable.
        """
        address = driver_url(url)
        if address.get_backend_name() == "sqlite":
            engine = _open_sqlite(Path(address.database or ""), read_only)
        else:
            engine = _open_postgresql(url, read_only, None if patient else STATEMENT)
        database = cls(engine)
        event.listen(engine.sync_engine, "handle_error", _put_into_words(place(engine.url)))
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
        """A transaction that writes: committed at the end, undone by any error. Not to be nested.

        On SQLite it is the only one that writes from its beginning on, so it cannot fail half-way for another's sake.
        Raises DatabaseUnavailable; if that comes up in the end, whether it was committed is not known.
        """
        async with self._turn, self._connected(self._writing) as connection, connection.begin():
            yield connection

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads; on SQLite all of it is of one moment. Raises DatabaseUnavailable."""
        async with self._connected(self._engine) as connection, connection.begin():
            yield connection

    def insert(self, table: Table) -> Any:
        """INSERT in the dialect that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return (sqlite if self.dialect == "sqlite" else postgresql).insert(table)

    async def close(self) -> None:
        """Close all connections. Twice is fine."""
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(engine.connect())
            except (*unavailable.FROM_CONNECTING, DBAPIError) as error:
                why = unavailable.reason(error)
                if why is None:
                    raise
                raise unavailable.said(self._name, why) from error
            yield connection

    @property
    def _name(self) -> str:
        return place(self._engine.url)


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
    see_to(file, read_only)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file)),
        connect_args={"timeout": PATIENCE},
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT,
        hide_parameters=True,  # they hold secrets and payloads, and errors are logged
    )
    ways = ["query_only = ON"] if read_only else ["journal_mode = WAL", "synchronous = FULL"]
    ways += [f"wal_autocheckpoint = {_CHECKPOINT}", "cache_size = -32000", "temp_store = MEMORY"]

    # Python's driver would begin transactions by itself, too late to wait for another writer: so it is told not to, and
    # a transaction that writes takes its place among the writers when it begins.
    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for way in ways:
            cursor.execute(f"PRAGMA {way}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("notifier_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def see_to(file: Path, read_only: bool) -> None:
    """Have SQLite's file, for its user alone (its log takes over the mode). Raises DatabaseUnavailable."""
    try:
        if not read_only:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        elif not file.exists():
            raise DatabaseUnavailable(
                f"there is no database {file}: `notifier run` makes it, or NOTIFIER_DATABASE_URL names another one"
            )
    except OSError as error:
        raise unavailable.said(str(file), error.strerror or str(error)) from None


def _open_postgresql(url: str, read_only: bool, statement: float | None) -> AsyncEngine:
    async def connect() -> asyncpg.Connection[Any]:
        # the address as it stands: asyncpg reads what psql reads, sslmode included
        return await asyncpg.connect(
            url,
            timeout=PATIENCE,
            command_timeout=statement,
            server_settings={
                "application_name": "notifier",
                "default_transaction_read_only": "on" if read_only else "off",
            },
        )

    # A connection may have died while it lay idle: asked before it is used, or each of them would fail once.
    return create_async_engine(
        driver_url(url).set(query={}),
        async_creator=connect,
        pool_size=_CONNECTIONS,
        max_overflow=_CONNECTIONS,
        pool_timeout=_POOL_TIMEOUT,
        hide_parameters=True,  # they hold secrets and payloads, and errors are logged
        pool_pre_ping=True,
    )


def _put_into_words(name: str) -> Callable[[ExceptionContext], DatabaseUnavailable | None]:
    """For SQLAlchemy, which raises what is returned in place of the driver's error."""

    def put(context: ExceptionContext) -> DatabaseUnavailable | None:
        why = unavailable.reason(context.sqlalchemy_exception or context.original_exception)
        return None if why is None else unavailable.said(name, why)

    return put
