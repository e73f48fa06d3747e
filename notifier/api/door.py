"""The ledger's database as this process has it: opened in the background and tried again, since notifications are
accepted without it; then looked at now and then, so that it can be told whether it answers.
"""

from __future__ import annotations

import asyncio
import logging
import random

from notifier import logs
from notifier.errors import DatabaseUnavailable, NotifierError
from notifier.ledger import migrating
from notifier.ledger.database import Database, driver_url, place

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: Seconds between two looks, and for one.
LOOK, ANSWER = 5.0, 3.0
#: Seconds that the process waits at its start for a database that is there, as a rule.
PROMPT = 2.0


class LedgerDoor:
    """Keeps trying until the database is open; what goes wrong with it later is told by whoever uses it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Database | None = None
        self._why = "the ledger's database is not open yet"
        self._opened = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._up = False

    async def start(self) -> None:
        """Begin to open it; returns when it is open, or after `PROMPT` seconds all the same."""
        self._opening = asyncio.create_task(self._keep(), name="ledger door")
        waiting = asyncio.create_task(self._opened.wait())
        await asyncio.wait([waiting, self._opening], timeout=PROMPT, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    @property
    def database(self) -> Database:
        """Raises DatabaseUnavailable with the reason while it is not open."""
        if self._database is None:
            raise DatabaseUnavailable(self._why)
        return self._database

    @property
    def up(self) -> bool:
        """Whether it answered when it was last looked at."""
        return self._up

    async def close(self) -> None:
        """Twice is fine."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
            self._opening = None
        if self._database is not None:
            database, self._database = self._database, None
            self._why = "this process ends"
            await database.close()

    async def _keep(self) -> None:
        await self._open()
        while True:
            await asyncio.sleep(LOOK)
            self._up = await self._answers()

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER), self.database.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except (DatabaseUnavailable, TimeoutError):
            return False
        return True

    async def _open(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                self._database = await self._checked()
            except Exception as error:  # also a database that the agent has not brought up to date yet
                if str(error) != self._why:
                    unforeseen = None if isinstance(error, NotifierError) else error
                    logs.event("database.unavailable", logging.WARNING, why=str(error), exc_info=unforeseen)
                self._why = str(error)
            else:
                self._up = True
                self._opened.set()
                return
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _checked(self) -> Database:
        """Open, and with the tables of this version. Raises DatabaseUnavailable, DatabaseMismatch."""
        database = await Database.open(self._url)
        try:
            await migrating.check(database, place(driver_url(self._url)))
        except BaseException:
            await database.close()
            raise
        return database
