"""A TCP proxy in front of the broker that a test can hold, cut, freeze and slow down."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Line:
    """One forwarded connection. Gates: clear one and what comes that way waits."""

    def __init__(self, upward: asyncio.Event, downward: asyncio.Event, *writers: asyncio.StreamWriter) -> None:
        self.upward = upward
        self.downward = downward
        self.writers = writers


class Proxy:
    """Forwards connections to the broker of `url`; connect to `Proxy.url` instead.

    upward: towards the broker. downward: towards the client. Both cleared is a half-open line: nothing arrives, and
    nothing is closed. tls: clients speak TLS to it.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._parts = urlsplit(url)
        self._tls = tls
        self._lines: set[Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()
        self._sent_up = 0
        self._sent_down = 0
        self.upward = _open()
        self.downward = _open()
        self.connections = 0
        self.refusing = False
        self.slice = 65_536
        self.pause = 0.0

    @property
    def url(self) -> str:
        """Where clients connect."""
        user = self._parts.netloc.rpartition("@")[0]
        scheme = "amqps" if self._tls else "amqp"
        return urlunsplit(self._parts._replace(scheme=scheme, netloc=f"{user}@127.0.0.1:{self._port}"))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def asked(self, count: int) -> None:
        """Wait until the clients sent this many bytes more, forwarded or not."""
        wanted = self._sent_up + count
        await self._until(lambda: self._sent_up >= wanted)

    async def answered(self, count: int) -> None:
        """Wait until the broker sent this many bytes more, forwarded or not."""
        wanted = self._sent_down + count
        await self._until(lambda: self._sent_down >= wanted)

    async def connected(self, count: int) -> None:
        """Wait for this many connections more, refused ones included."""
        wanted = self.connections + count
        await self._until(lambda: self.connections >= wanted)

    def cut(self) -> None:
        """Reset all connections, on both sides."""
        for line in self._lines:
            for writer in line.writers:
                with contextlib.suppress(AttributeError):  # Python 3.11's TLS transports, once they are lost
                    writer.transport.abort()
        self._lines.clear()

    def end_after_answers(self) -> None:
        """Give the clients what was held back for them, and with the last byte of it the end of the connection."""
        for line in self._lines:
            line.writers[1].transport.abort()
        self.downward.set()

    def thaw_for_new_connections(self) -> None:
        """Leave the present lines frozen and forward those that come."""
        self.upward, self.downward = _open(), _open()

    async def _until(self, reached: object) -> None:
        assert callable(reached)
        async with self._news:
            await self._news.wait_for(reached)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._tell(connections=1)
        if self.refusing:
            writer.transport.abort()
            return
        host, port = self._parts.hostname, self._parts.port or 5672
        their_reader, their_writer = await asyncio.open_connection(host, port)
        line = Line(self.upward, self.downward, writer, their_writer)
        self._lines.add(line)
        upwards: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)  # what waits there fills the client's buffers
        downwards: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks |= {
            asyncio.create_task(self._take(reader, upwards, up=True)),
            asyncio.create_task(self._give(upwards, their_writer, line.upward)),
            asyncio.create_task(self._take(their_reader, downwards, up=False)),
            asyncio.create_task(self._give(downwards, writer, line.downward)),
        }

    async def _take(self, reader: asyncio.StreamReader, taken: asyncio.Queue[bytes], *, up: bool) -> None:
        with contextlib.suppress(OSError):
            while arrived := await reader.read(self.slice):
                await self._tell(**{"up" if up else "down": len(arrived)})
                await taken.put(arrived)
        await taken.put(b"")

    async def _give(self, taken: asyncio.Queue[bytes], writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while waiting := await taken.get():
                await gate.wait()
                if self.pause:
                    await asyncio.sleep(self.pause)
                writer.write(waiting)
                await writer.drain()
            await gate.wait()
        writer.close()

    async def _tell(self, *, up: int = 0, down: int = 0, connections: int = 0) -> None:
        async with self._news:
            self._sent_up += up
            self._sent_down += down
            self.connections += connections
            self._news.notify_all()


def _open() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
