"""A publisher at work on a real broker, and messages for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology
from notifier.domain.wire import Message


@asynccontextmanager
async def publishing(urls: str | Sequence[str], topology: Topology) -> AsyncIterator[Publisher]:
    """A started publisher, closed afterwards."""
    publisher = Publisher([urls] if isinstance(urls, str) else urls, topology)
    try:
        await publisher.start(15)
        yield publisher
    finally:
        await publisher.close()


def message(body: bytes | str = b"{}", **headers: object) -> Message:
    """One with a message_id of its own."""
    return Message(body.encode() if isinstance(body, str) else body, headers, message_id=fresh_message_id())
