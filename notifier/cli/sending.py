"""Many notifications on their way in at once; their ids come out in the order in which they went in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from notifier.cli.apart import apart
from notifier.delivery.acceptance import Entrance
from notifier.domain.notification import Notification
from notifier.errors import BrokerError

#: What may be unconfirmed at once: enough to keep the broker busy, and a bound on memory.
MOST = 512
MOST_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class _Sent:
    number: int
    notification: Notification
    accepting: asyncio.Task[Notification]


class Sending:
    """Hands notifications in and prints each id once the broker confirmed.

    refused: told the line's number and why, for what the broker refused.
    """

    def __init__(self, entrance: Entrance, receipts: Receipts, refused: Callable[[int, str], None]) -> None:
        self._entrance = entrance
        self._receipts = receipts
        self._refused = refused
        self._under_way: deque[_Sent] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._closed = False
        self._settling = asyncio.create_task(self._settle_in_order(), name="settle")
        self._settling.add_done_callback(lambda _: self._changed.set())
        self.accepted = 0

    async def add(self, number: int, notification: Notification) -> None:
        """Start to send it; waits while too much is unconfirmed."""
        size = len(notification.payload)
        while self._under_way and (len(self._under_way) >= MOST or self._bytes + size > MOST_BYTES):
            await self._change()
            if self._settling.done():
                self._settling.result()
        accepting = asyncio.create_task(self._entrance.accept(notification))
        self._under_way.append(_Sent(number, notification, accepting))
        self._bytes += size
        self._changed.set()

    async def finish(self) -> None:
        """Return when everything is confirmed or refused, and its id is printed. Nothing may be added any more."""
        self._closed = True
        self._changed.set()
        await asyncio.shield(self._settling)

    async def abandon(self) -> list[int]:
        """Stop at once; print what is confirmed by now. Returns the lines that are not: sent, but who knows."""
        self._settling.cancel()
        await asyncio.gather(self._settling, return_exceptions=True)
        left, self._under_way = self._under_way, deque()
        unsure = []
        for sent in left:
            if sent.accepting.done():
                self._settle(sent)
            else:
                sent.accepting.cancel()
                unsure.append(sent.number)
        await asyncio.gather(*(sent.accepting for sent in left), return_exceptions=True)
        await self._receipts.write(patience=1)
        return unsure

    async def _settle_in_order(self) -> None:
        while True:
            while self._under_way:
                sent = self._under_way[0]
                if not sent.accepting.done():
                    await self._receipts.write()  # what is confirmed is told before anything is waited for
                    await asyncio.wait([sent.accepting])
                self._under_way.popleft()
                self._bytes -= len(sent.notification.payload)
                self._changed.set()
                self._settle(sent)
            await self._receipts.write()
            if self._under_way:
                continue  # a slow reader: more was handed in meanwhile
            if self._closed:
                return
            await self._change()

    def _settle(self, sent: _Sent) -> None:
        try:
            sent.accepting.result()
        except BrokerError as error:
            self._refused(sent.number, str(error))
        else:
            self.accepted += 1
            self._receipts.add(sent.notification.id)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Receipts:
    """Ids on stdout. When its reader leaves, sending goes on: what was handed in is not the reader's to stop.

    descriptor: None when stdout is closed. lost: told why, once, when nobody can read the ids any more.
    """

    def __init__(self, descriptor: int | None, lost: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._tell_lost = lost
        self._lines: list[str] = []
        self._writing = threading.Lock()
        self.lost = False
        if descriptor is None:
            self._lose("stdout is closed")

    def add(self, notification_id: str) -> None:
        """Print it at the next write."""
        if not self.lost:
            self._lines.append(f"{notification_id}\n")

    async def write(self, patience: float | None = None) -> None:
        """Print what was added. Waits for a slow reader, at most `patience` seconds, while the connection lives on."""
        if self._lines:
            await asyncio.wait([asyncio.create_task(apart(self._write))], timeout=patience)

    def _write(self) -> None:
        with self._writing:
            text, self._lines = "".join(self._lines).encode(), []
            try:
                while text and self._descriptor is not None:
                    text = text[os.write(self._descriptor, text) :]
            except OSError as error:
                self._lose(
                    "the reader of stdout left" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
                )

    def _lose(self, why: str) -> None:
        self.lost = True
        self._descriptor = None
        self._tell_lost(why)
