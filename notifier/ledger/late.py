"""The ledger's database, for a process that starts without it: brought up to date and opened as soon as it answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from notifier import logs
from notifier.errors import DatabaseMismatch, DatabaseUnavailable, NotifierError
from notifier.ledger.database import Database
from notifier.ledger.migrating import migrate
from notifier.ledger.unavailable import retryable

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: Seconds that a process waits at its start for a database that is there, as a rule.
PROMPT = 5.0


class LateDatabase(Database):
    """A Database that everybody may hold from the beginning; until it is open each use raises DatabaseUnavailable."""

    def __init__(self, url: str) -> None:
        self._address = url
        self._opened: Database | None = None
        self._why: str | None = "the ledger's database is not open yet"
        self._since, self._steady_since = time.time(), time.monotonic()
        self._opening: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        self._refusal: DatabaseMismatch | None = None

    async def start(self) -> None:
        """Begin to migrate and open it; returns when it is open, or after `PROMPT` seconds all the same.

        Raises DatabaseMismatch, with which waiting cannot help, if it is known by then.
        """
        self._opening = asyncio.create_task(self._open(), name="opening the ledger")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROMPT):
                await self._answered.wait()
        if self._refusal is not None:
            raise self._refusal

    async def close(self) -> None:
        """Twice is fine."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
            self._opening = None
        opened, self._opened = self._opened, None
        if opened is not None:
            self._why = "this process ends"
            await opened.close()

    def heard(self, why: str | None) -> None:
        """What became of the last one that writes: None, or why it could not be."""
        if (why is None) is not (self._why is None):
            self._since, self._steady_since = time.time(), time.monotonic()
            if why is None:
                logs.event("database.up")
            else:
                logs.event("database.down", logging.WARNING, why=why)
        self._why = why

    def up_for(self) -> float:
        """Seconds for which it has answered; 0 while it does not."""
        return time.monotonic() - self._steady_since if self._why is None else 0.0

    def state(self) -> dict[str, Any]:
        """As JSON: {"database": "up" | "down", "database_since", "database_why"}."""
        return {
            "database": "up" if self._why is None else "down",
            "database_since": logs.moment(int(self._since * 1000)),
            "database_why": self._why,
        }

    @property
    def dialect(self) -> str:
        """As of the Database, known from its address."""
        return "sqlite" if self._address.startswith("sqlite") else "postgresql"

    def insert(self, table: Table) -> Any:
        """As of the Database."""
        return self._there.insert(table)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """As of the Database."""
        with self._watched():
            async with self._there.begin() as connection:
                yield connection
        self.heard(None)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """As of the Database."""
        with self._watched():
            async with self._there.connect() as connection:
                yield connection  # that it can be read does not mean that it can be written

    @property
    def _there(self) -> Database:
        if self._opened is None:
            raise DatabaseUnavailable(self._why or "the ledger's database is not open")
        return self._opened

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except DatabaseUnavailable as error:
            if not retryable(error):
                self.heard(str(error))
            raise

    async def _open(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                before, after = await migrate(self._address)
                self._opened = await Database.open(self._address)
            except Exception as error:  # whatever it is, waiting for it to pass is all that can be done about it
                if str(error) != self._why:
                    unforeseen = None if isinstance(error, NotifierError) else error
                    logs.event("database.unavailable", logging.WARNING, why=str(error), exc_info=unforeseen)
                self._why = str(error)
                if isinstance(error, DatabaseMismatch):
                    self._refusal = error
                    self._answered.set()
            else:
                if before != after:
                    logs.event("database.migrated", before=before, after=after)
                self.heard(None)
                self._answered.set()
                return
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)
