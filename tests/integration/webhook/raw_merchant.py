"""Merchants that speak HTTP by hand, so that they can break it; and names that resolve as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.signature import Secret
from notifier.sections import Egress
from notifier.webhook.client import Webhook

SECRET = Secret(b"32 bytes that only tests know ..")
LOOPBACK = "127.0.0.0/8,::1/128"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawMerchant:
    """Follows `talk` on every connection. connections: how many were made; ended: set when one of them is over."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.connections = 0
        self.ended = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=a-secret-of-the-merchant"

    async def follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            # RuntimeError: what uvloop raises for writing to a connection that the other side has closed
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):
                await self._talk(reader, writer)
        finally:
            writer.close()
            self.ended.set()


@contextlib.asynccontextmanager
async def raw_merchant(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawMerchant]:
    merchant = RawMerchant(talk)
    talks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(merchant.follow(reader, writer))
        talks.add(task)
        task.add_done_callback(talks.discard)
        task.add_done_callback(lambda _: writer.close())  # also if it was cancelled before it had begun

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    merchant.port = server.sockets[0].getsockname()[1]
    try:
        yield merchant
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """One whole request: its headers, names in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return headers, await reader.readexactly(int(headers.get("content-length", 0)))


def saying(answer: bytes, *, then_hold: bool = False) -> Talk:
    """Takes the request, says `answer`, and closes or holds the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        await writer.drain()
        if then_hold:
            await reader.read()

    return talk


def without_end(beginning: bytes, chunk: bytes) -> Talk:
    """Takes the request, says `beginning`, then `chunk` again and again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(beginning)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)  # drain alone does not yield while the kernel takes everything

    return talk


class Names(AbstractResolver):
    """A resolver of the tests' own: what it does not know has no address. asked: every name, in order."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if host not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._names[host]
        ]

    async def close(self) -> None:
        """Nothing to close."""


class LibraryNames(Names):
    """Reads spellings of numbers as the C library does, without asking any server; else as the tests' names."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):
            return await super().resolve(host, port, family)
        addresses = [str(each[4][0]) for each in found]
        return await Names({host: addresses}).resolve(host, port, family)


@contextlib.asynccontextmanager
async def a_webhook(allow: str = LOOPBACK, timeout: float = 5, **options: Any) -> AsyncIterator[Webhook]:
    """A started client. Egress settings among the options are taken out; names resolve only where a test says so."""
    limits = {name: options.pop(name) for name in Egress.model_fields if name in options}
    webhook = Webhook(
        Egress(allow=allow, timeout=timeout, **limits), **{"resolver": Names({"localhost": ["127.0.0.1"]}), **options}
    )
    await webhook.start()
    try:
        yield webhook
    finally:
        await webhook.close()


@contextlib.contextmanager
def memory_below(most: int) -> Iterator[None]:
    """The block allocates at no time more than `most` bytes beyond what there was."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes"


def a_notification(url: str | None, **fields: Any) -> Notification:
    return Notification(**{"id": "ntf_1", "merchant": "shop", "payload": b'{"order":42}', "url": url, **fields})


def a_merchant(**fields: Any) -> Merchant:
    return Merchant(**{"id": "shop", "secrets": (SECRET,), **fields})
