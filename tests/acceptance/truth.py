"""Whether the ledger tells the truth: its rows, read with the database's own driver, beside the receiver's record."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from notifier.broker.node_files import Ports
from notifier.simulator.server import Simulator

#: (webhook-id, attempt number), and how often.
Attempts = Counter[tuple[str, int]]


def received_by(merchants: Simulator) -> Attempts:
    """Every request that the merchants' own record has."""
    return Counter((str(each.webhook_id), each.attempt or 0) for each in merchants.received if each.webhook_id)


class Books:
    """The ledger's database, SQLite or PostgreSQL, opened anew for each question: it may have died meanwhile."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds. Raises what the driver raises when there is no database."""
        if self._url.startswith("sqlite"):
            return await asyncio.to_thread(self._rows, query)
        async with asyncio.timeout(10):
            connection = await asyncpg.connect(self._url)
            try:
                return [tuple(row.values()) for row in await connection.fetch(query)]
            finally:
                await connection.close()

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        file = self._url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(query).fetchall()

    async def count(self, query: str) -> int:
        """The one number that a query finds."""
        return int((await self.rows(query))[0][0])

    async def attempts(self, merchant: str | None = None) -> Attempts:
        """(notification, number) of every row; of one merchant alone, or of all."""
        condition = "" if merchant is None else f" WHERE merchant = '{merchant}'"
        rows = await self.rows(f"SELECT notification, number FROM attempts{condition}")
        return Counter((row[0], row[1]) for row in rows)

    async def until_told(self, attempts: int, timeout: float = 60) -> None:
        """Wait until there are so many rows of attempts: a fact given out again comes after later ones of its
        notification, so that may be finished before all of its attempts are known.
        """
        found = -1
        try:
            async with asyncio.timeout(timeout):
                while found < attempts:
                    await asyncio.sleep(0.2)
                    found = await self.count("SELECT count(*) FROM attempts")
        except TimeoutError:
            raise AssertionError(f"after {timeout:g} s the ledger has {found} of {attempts} attempts") from None

    async def until_finished(self, accepted: set[str], timeout: float = 60) -> None:
        """Wait until all of these are in the ledger and nothing in it is on its way. Asked again and again: what a
        database holds is no event.
        """
        unfinished = -1
        missing = accepted
        try:
            async with asyncio.timeout(timeout):
                while unfinished or missing:
                    await asyncio.sleep(0.2)
                    unfinished = await self.count(
                        "SELECT count(*) FROM notifications WHERE status IN ('accepted', 'attempted', 'held')"
                    )
                    if not unfinished:
                        missing = accepted - {row[0] for row in await self.rows("SELECT id FROM notifications")}
        except TimeoutError:
            raise AssertionError(
                f"after {timeout:g} s {unfinished} are unfinished, {len(missing)} are not in the ledger: "
                f"{sorted(missing)[:5]}"
            ) from None


@contextlib.asynccontextmanager
async def locked_exclusively(file: Path) -> AsyncIterator[None]:
    """No other connection writes to this SQLite file for the length of the block."""
    opened = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
    with contextlib.closing(opened) as connection:
        await asyncio.to_thread(connection.execute, "BEGIN EXCLUSIVE")  # others write: this waits for its turn
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def nobody_listening() -> Iterator[str]:
    """An address at which every connection is refused, and nobody else begins to listen meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def free_port() -> int:
    """For a listener that comes again at the same address after its death: none given to whoever asks for any."""
    return Ports.free().amqp


class HttpProducer:
    """Hands in notifications over HTTP, a tenth of a second's at a time.

    accepted: ids that were answered with 202. unknown: ids whose request was not answered, so they may be accepted or
    not. refused: answers other than 202.
    """

    def __init__(self, url: str, addresses: Mapping[str, str]) -> None:
        """addresses: of each merchant; they get theirs in turn."""
        self.accepted: set[str] = set()
        self.unknown: set[str] = set()
        self.refused: list[int] = []
        self._url = f"{url}/v1/notifications"
        self._turn = itertools.cycle(addresses.items())

    @contextlib.asynccontextmanager
    async def load(self, per_second: int) -> AsyncIterator[None]:
        """A steady stream for the length of the block; what was sent by then is answered."""
        ending = asyncio.Event()
        streaming = asyncio.create_task(self._stream(per_second, ending))
        try:
            yield
        finally:
            ending.set()
            await streaming

    async def _stream(self, per_second: int, ending: asyncio.Event) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session, asyncio.TaskGroup() as sending:
            while not ending.is_set():
                sending.create_task(self._post(session, max(1, per_second // 10)))
                await asyncio.sleep(0.1)

    async def _post(self, session: aiohttp.ClientSession, count: int) -> None:
        composed = {
            f"http-{secrets.token_hex(8)}": {"merchant": merchant, "url": url, "payload": {}}
            for merchant, url in itertools.islice(self._turn, count)
        }
        body = {"notifications": [{"id": each, **stated} for each, stated in composed.items()]}
        try:
            async with session.post(self._url, json=body) as answer:
                told = await answer.json()
        except (aiohttp.ClientError, TimeoutError):
            self.unknown |= composed.keys()
            return
        if answer.status == 202:
            assert told["refused"] == 0, told
            self.accepted |= composed.keys()
        else:
            self.unknown |= composed.keys()
            self.refused.append(answer.status)
