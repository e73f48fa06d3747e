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
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from notifier import logs
from notifier.cancellation import is_cancelled
from notifier.errors import BadFrame, NoAnswer, NotifierError, PeerBusy, PeerGone, RequestFailed
from notifier.supervision import frames
from notifier.supervision.outbox import Outbox

Body = Mapping[str, Any]

#: Requests of the peer that may be worked on at the same time; what comes beyond is answered `busy` at once.
ANSWERING_LIMIT = 1000
#: Characters of a sentence sent instead of an answer.
ERROR_LIMIT = 2000


class Listener(Protocol):
    """Who hears what the peer says. All are called in the order of arrival, and none may block."""

    def noticed(self, name: str, body: Body) -> None:
        """The peer told something. Raises BadFrame if the peer must not say this: the link is closed."""

    def asked(self, name: str, body: Body) -> Body | Awaitable[Body]:
        """The peer wants an answer: the returned body, or the sentence of a raised NotifierError.

        What takes longer returns an awaitable; such answers may come in another order than their requests.
        """

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
        self._outbox = Outbox()
        self._ids = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[Body]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._writing_since: float | None = None
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
        answer = self.request(name, body)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise NoAnswer(f"{name!r} was not answered within {timeout:g} s") from None

    def request(self, name: str, body: Body | None = None) -> asyncio.Future[Body]:
        """Send a request; does not wait. Cancel the future if the answer is not wanted any more: it is dropped then.

        Raises PeerGone or PeerBusy at once; the future fails like `ask`, but knows no time limit.
        """
        number = next(self._ids)
        self._post({"ask": name, "id": number, "body": dict(body or {})})
        answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        self._unanswered[number] = answer
        answer.add_done_callback(lambda _: self._unanswered.pop(number, None))
        return answer

    @property
    def unanswered(self) -> int:
        """Requests that the peer has not answered yet."""
        return len(self._unanswered)

    @property
    def unread_since(self) -> float | None:
        """The loop's time since when the peer has taken nothing although something waits for it."""
        return self._writing_since

    async def ended(self) -> None:
        """Wait until the peer is gone, or the channel closed on this side."""
        await self._over.wait()

    async def close(self, flush: float = 1.0) -> None:
        """Give the outbox `flush` seconds to leave, then close."""
        if not self._over.is_set():
            self._outbox.finish()
            await asyncio.wait([self._tasks[1]], timeout=flush)
        tasks = (*self._tasks, *self._answering)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
                self._writing_since = asyncio.get_running_loop().time()
                self._writer.write(frame)
                await self._writer.drain()
                self._writing_since = None
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
        if len(self._answering) >= ANSWERING_LIMIT:
            self._reply(number, error=f"busy: {ANSWERING_LIMIT} requests are being worked on already")
            return
        try:
            answer = self._listener.asked(name, body)
        except BadFrame:
            raise
        except NotifierError as error:
            self._reply(number, error=str(error))
            return
        if isinstance(answer, Mapping):
            self._reply(number, answer)
        else:
            working = asyncio.create_task(self._answer_later(number, answer))
            self._answering.add(working)
            working.add_done_callback(self._answering.discard)

    async def _answer_later(self, number: int, answer: Awaitable[Body]) -> None:
        try:
            body = await answer
        except NotifierError as error:
            self._reply_if_heard(number, error=str(error))
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled():
                raise
            # something that it awaited was cancelled, or it failed: without this nobody would answer, nor hear of it
            logs.event("answer.failed", logging.ERROR, exc_info=error)
            self._reply_if_heard(number, error=f"failed: {error!r}")
        else:
            self._reply_if_heard(number, body)

    def _reply_if_heard(self, number: int, body: Body | None = None, *, error: str | None = None) -> None:
        with contextlib.suppress(PeerGone):
            try:
                self._reply(number, body, error=error)
            except BadFrame as broken:
                self._end(str(broken), broken=True)

    def _reply(self, number: int, body: Body | None = None, *, error: str | None = None) -> None:
        """Raises BadFrame for a peer that asks and asks and does not read the answers."""
        if error is not None:
            answer: dict[str, Any] = {"answer": number, "error": error[:ERROR_LIMIT]}
        else:
            answer = {"answer": number, "body": dict(body or {})}
        try:
            frame = frames.encode(answer)
        except BadFrame as unsayable:
            frame = frames.encode({"answer": number, "error": f"there is an answer, but {unsayable}"})
        try:
            self._send(frame)
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
        self._send(frames.encode(message))

    def _send(self, frame: bytes) -> None:
        if self._over.is_set():
            raise PeerGone("the process at the other end of the pipe is gone")
        self._outbox.put(frame)

    def _end(self, reason: str, *, broken: bool) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._outbox.finish()
        self._writer.transport.abort()  # a peer that was broken off sees it at its next word
        for waiting in list(self._unanswered.values()):
            if not waiting.done():
                waiting.set_exception(PeerGone(f"the process at the other end of the pipe is gone: {reason}"))
        self._listener.link_ended(reason, broken=broken)
