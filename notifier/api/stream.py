"""Attempts as they reach the ledger, as server-sent events.

One reader of the ledger serves all who listen, and rests while nobody does. Who reads more slowly than attempts come
misses some and is told how many; nobody's memory grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from notifier.api.parts import Given, Parts
from notifier.api.problems import Problem
from notifier.errors import DatabaseUnavailable
from notifier.ledger import notifications

router = APIRouter(prefix="/v1", tags=["attempts"])

#: Listeners at the same time.
MOST_LISTENERS = 100
#: Attempts that wait for one listener.
MOST_WAITING = 500
#: Attempts read in one look, and seconds between two looks.
AT_ONCE, LOOK = 500, 0.5
#: Seconds of silence after which a comment says that the line stands.
HEARTBEAT = 10.0


class Listener:
    """One that listens. merchant: only attempts of this one."""

    def __init__(self, merchant: str | None) -> None:
        self._merchant = merchant
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._missed = 0
        self._news = asyncio.Event()

    def hear(self, attempt: Mapping[str, Any]) -> None:
        """Take it, or count it as missed."""
        if self._merchant is not None and attempt["merchant"] != self._merchant:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._missed += 1
        else:
            self._waiting.append(attempt)
        self._news.set()

    def end(self) -> None:
        """Wake whoever waits."""
        self._news.set()

    async def next(self) -> str:
        """The next piece of the stream; a comment if nothing came for a while."""
        try:
            async with asyncio.timeout(HEARTBEAT):
                await self._news.wait()
        except TimeoutError:
            return ": still here\n\n"
        self._news.clear()
        pieces = [_event("attempt", attempt, str(attempt["seq"])) for attempt in self._waiting]
        self._waiting.clear()
        if self._missed:
            pieces.append(_event("missed", {"attempts": self._missed}))
            self._missed = 0
        return "".join(pieces)


class Broadcast:
    """Reads the ledger for all listeners."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._listeners: set[Listener] = set()
        self._reading: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Read from now on, for whoever comes to listen next. Raises Problem when there are too many, or
        DatabaseUnavailable.
        """
        if len(self._listeners) >= MOST_LISTENERS:
            raise Problem("unavailable", f"{MOST_LISTENERS} others listen already")
        if self._reading is None or self._reading.done():
            newest = await notifications.newest_attempt(self._parts.database)
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(newest), name="stream of attempts")

    @contextlib.contextmanager
    def listening(self, merchant: str | None) -> Iterator[Listener]:
        """A listener for the length of the block."""
        listener = Listener(merchant)
        self._listeners.add(listener)
        self._parts.activity.streams = len(self._listeners)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._parts.activity.streams = len(self._listeners)

    async def _read(self, after: int) -> None:
        """Until nobody listens, or this process drains."""
        closing = asyncio.create_task(self._parts.closing.wait())
        try:
            while not closing.done():
                before = after
                with contextlib.suppress(DatabaseUnavailable):  # what comes meanwhile is read afterwards
                    after = await self._look(after)
                full = after - before >= AT_ONCE  # there is more, so it is looked at again at once
                await asyncio.wait([closing], timeout=0 if full else LOOK)
                if not self._listeners:
                    return
        finally:
            closing.cancel()
            for listener in self._listeners:
                listener.end()

    async def _look(self, after: int) -> int:
        found = await notifications.attempts_after(self._parts.database, after, AT_ONCE)
        for attempt in found:
            for listener in self._listeners:
                listener.hear(attempt)
        return int(found[-1]["seq"]) if found else after


@router.get(
    "/stream",
    summary="Attempts as they happen",
    response_class=StreamingResponse,
    responses={200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}},
)
async def stream(
    request: Request,
    parts: Given,
    merchant: Annotated[str | None, Query(description="only of this merchant", max_length=128)] = None,
) -> StreamingResponse:
    """Events `attempt`, each with one attempt as JSON; `missed` with how many this listener was too slow for."""
    broadcast: Broadcast = request.app.state.broadcast
    await broadcast.begin()  # before the answer does, so that a refusal can still be told

    async def pieces() -> AsyncIterator[str]:
        with broadcast.listening(merchant) as listener:
            yield "retry: 2000\n\n"
            while not parts.closing.is_set():
                yield await listener.next()

    return StreamingResponse(pieces(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _event(name: str, value: Mapping[str, Any], event_id: str | None = None) -> str:
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {name}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n"
