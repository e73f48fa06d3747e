"""A part of the load that comes over HTTP: producers that send each notification until it is answered with 202."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import aiohttp

from tests.faults.load import KINDS, Load
from tests.faults.verdict import Sent

#: Producers, each with one request at a time; and seconds that each rests after an answer.
PRODUCERS, _REST = 6, 0.1
#: Seconds until a request that nobody took is made again, and for which one may go on.
_AGAIN, _PATIENCE = 0.05, 10.0


class HttpLoad:
    """What it hands in is judged with the stream. url: of the API. accepted: answered with 202. broken: requests that
    the death of the API broke off or that nobody took.
    """

    def __init__(self, load: Load, url: str) -> None:
        self._load = load
        self._url = f"{url.rstrip('/')}/v1/notifications"
        self._news = asyncio.Condition()
        self.accepted = 0
        self.broken = 0

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Requests for the length of the block; at its end each has been answered with 202."""
        ending = asyncio.Event()
        producers = [asyncio.create_task(self._produce(ending)) for _ in range(PRODUCERS)]
        try:
            yield
            ending.set()
            await asyncio.gather(*producers)
        finally:
            for producer in producers:
                producer.cancel()
            await asyncio.gather(*producers, return_exceptions=True)

    async def until(self, look: Callable[[], bool], timeout: float) -> None:
        """Wait until something is so after an answer. Raises TimeoutError."""
        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(look)

    async def _produce(self, ending: asyncio.Event) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_PATIENCE)) as session:
            number = 0
            while not ending.is_set():
                number += 1
                sent, merchant, url = self._load.noted(list(KINDS)[number % len(KINDS)])
                while sent.confirmed is None:
                    await self._try(session, sent, merchant, url)
                await asyncio.sleep(_REST)

    async def _try(self, session: aiohttp.ClientSession, sent: Sent, merchant: str, url: str) -> None:
        body = {"merchant": merchant, "url": url, "id": sent.id, "payload": {"key": sent.id}}
        first, sent.began = sent.began is None, sent.began or time.time() * 1000
        try:
            async with session.post(self._url, json=body, headers={"Idempotency-Key": sent.id}) as answer:
                said = await answer.text()
                if answer.status == 202:
                    await self._note(sent, said, first)
                    return
                if answer.status not in (409, 503):  # still at work on it, or not able to take it
                    raise AssertionError(f"POST {self._url} was answered with {answer.status}: {said}")
        except (aiohttp.ClientError, TimeoutError):
            self.broken += 1
        await asyncio.sleep(_AGAIN)  # a client's own patience

    async def _note(self, sent: Sent, said: str, first: bool) -> None:
        sent.confirmed = time.time() * 1000
        if first:  # else one before it may have been published, too, with a moment of its own
            due = datetime.fromisoformat(json.loads(said)["due_at"]).timestamp() * 1000
            sent.enqueued_at = due - sent.delays[0]
        self.accepted += 1
        async with self._news:
            self._news.notify_all()
