"""One end of the pipe between the master and a child: notices, requests, answers.

    notice    {"tell": name, "body": {…}}
    request   {"ask": name, "id": n, "body": {…}}
    answer    {"answer": n, "body": {…}}  or  {"answer": n, "error": "a sentence"}

Sending never waits: it goes into a bounded outbox which one task writes. So a peer that does not read costs
at most its outbox, and telling something to many peers cannot be held up by one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from notifier import logs
from notifier.errors import BadFrame, ChildFailed, NoAnswer, PeerBusy, PeerGone, RequestFailed
from notifier.supervision import frames

Body = Mapping[str, Any]

#: Bytes that may wait for a peer that does not read, beyond what the kernel takes.
OUTBOX_LIMIT = 4 * frames.LIMIT


class Listener(Protocol):
    """Who hears what the peer says. All are called in the order of arrival, and none may block."""

    def noticed(self, name: str, body: Body) -> None:
        """The peer told something. Raises BadFrame if the peer must not say this: the link is closed."""

    def asked(self, name: str, body: Body) -> Body:
        """The peer wants an answer: the returned body, or the sentence of a raised ChildFailed."""

    def link_ended(self, reason: str, *, broken: bool) -> None:
        """Nothing comes any more; called once. broken: the peer sent what is no message."""


class Channel:
    """One end of a pipe. Open it with `Channel.open`; `close` it when done, twice is fine.

    After the peer is gone, `tell` and `ask` raise PeerGone, and so does every request still unanswered, at once.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener: Listener) -> None:
        self._reader = reader
        self._writer = writer
        self._listener = listener
        self._outbox = _Outbox()
        self._ids = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[Body]] = {}
        self._over = asyncio.Event()
        self._tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._write()))

    @classmethod
    async def open(cls, sock: socket.socket, listener: Listener) -> Channel:
        """The channel over this connected Unix socket, which it owns from now on."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        # drain() then waits for the last byte, so that all that waits for a slow peer stands in the bounded outbox
        writer.transport.set_write_buffer_limits(high=0)
        return cls(reader, writer, listener)

    def tell(self, name: str, body: Body | None = None) -> None:
        """Send a notice; does not wait. Raises PeerGone, or PeerBusy if the peer has not read for too long."""
        self._post({"tell": name, "body": dict(body or {})})

    async def ask(self, name: str, body: Body | None = None, *, timeout: float) -> Body:
        """Send a request and wait for its answer, at most `timeout` seconds.

        Raises PeerGone as soon as the peer is gone, NoAnswer in time, RequestFailed with the peer's sentence.
        """
        number = next(self._ids)
        answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._post({"ask": name, "id": number, "body": dict(body or {})})
        self._unanswered[number] = answer
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"{name!r} was not answered within {timeout:g} s") from None
        finally:
            del self._unanswered[number]

    async def ended(self) -> None:
        """Wait until the peer is gone, or the channel closed on this side."""
        await self._over.wait()

    async def close(self, flush: float = 1.0) -> None:
        """Give the outbox `flush` seconds to leave, then close."""
        if not self._over.is_set():
            self._outbox.finish()
            await asyncio.wait([self._tasks[1]], timeout=flush)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._over.is_set():  # the reading task was cancelled before its first step
            self._end("closed on this side", broken=False)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        reason, broken = "closed on this side", False
        try:
            while (message := await frames.read(self._reader)) is not None:
                self._hear(message)
            reason = "end of file"
        except BadFrame as error:
            reason, broken = str(error), True
        except OSError as error:
            reason = error.strerror or "connection lost"
        except Exception as error:  # a listener failed: without this nobody would hear that the link is over
            reason = f"hearing a message failed: {error!r}"
            logs.event("link.failed", logging.ERROR, exc_info=error)
        finally:
            self._end(reason, broken=broken)

    async def _write(self) -> None:
        try:
            while (frame := await self._outbox.take()) is not None:
                self._writer.write(frame)
                await self._writer.drain()
        except OSError:
            return  # the reading side sees the same end and tells it, once

    def _hear(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"tell": str(name), "body": dict(body)}:
                self._listener.noticed(name, body)
            case {"ask": str(name), "id": int(number), "body": dict(body)}:
                self._answer(number, name, body)
            case {"answer": int(number), "body": dict(body)}:
                self._settle(number, body)
            case {"answer": int(number), "error": str(sentence)}:
                self._settle(number, RequestFailed(sentence))
            case _:
                raise BadFrame(f"a frame is neither notice, request nor answer: its keys are {sorted(message)[:5]}")

    def _answer(self, number: int, name: str, body: Body) -> None:
        try:
            answer: dict[str, Any] = {"answer": number, "body": dict(self._listener.asked(name, body))}
        except BadFrame:
            raise
        except ChildFailed as error:
            answer = {"answer": number, "error": str(error)}
        try:
            self._post(answer)
        except PeerBusy:
            raise BadFrame("requests came without end and their answers were not read") from None

    def _settle(self, number: int, answer: Body | RequestFailed) -> None:
        waiting = self._unanswered.get(number)
        if waiting is None or waiting.done():
            return  # came after its timeout
        if isinstance(answer, RequestFailed):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _post(self, message: Mapping[str, Any]) -> None:
        if self._over.is_set():
            raise PeerGone("the process at the other end of the pipe is gone")
        self._outbox.put(frames.encode(message))

    def _end(self, reason: str, *, broken: bool) -> None:
        self._over.set()
        self._outbox.finish()
        self._writer.transport.abort()  # a peer that was broken off sees it at its next word
        for waiting in self._unanswered.values():
            if not waiting.done():
                waiting.set_exception(PeerGone(f"the process at the other end of the pipe is gone: {reason}"))
        self._listener.link_ended(reason, broken=broken)


class _Outbox:
    """Frames that wait for the one writer, bounded in bytes."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._finished = False
        self._changed = asyncio.Event()

    def put(self, frame: bytes) -> None:
        if self._size + len(frame) > OUTBOX_LIMIT:
            raise PeerBusy(f"the process at the other end of the pipe has left {self._size} bytes unread")
        self._frames.append(frame)
        self._size += len(frame)
        self._changed.set()

    def finish(self) -> None:
        self._finished = True
        self._changed.set()

    async def take(self) -> bytes | None:
        """The oldest frame as soon as there is one; None when finished and empty."""
        while not self._frames:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        frame = self._frames.popleft()
        self._size -= len(frame)
        return frame
