"""The socket under a connection, remembered: so that a connection which does not end by itself can be cut."""

from __future__ import annotations

import asyncio
from typing import Any

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL


class Transport(TransportFactory):
    """aiormq's own way to a broker, by TCP or TLS. One for each connection."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Called by aiormq when it connects."""
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self._writer = await factory.create(url, **kwargs)
        return reader, self._writer

    def cut(self) -> None:
        """Drop the socket with whatever waits to be written. Twice, or before there is one, is fine.

        A peer that is gone takes nothing any more: an orderly end would wait for the kernel to give up, up to a
        quarter of an hour, and so would every publish that waits for its confirm.
        """
        if self._writer is not None:
            self._writer.transport.abort()
