"""Looking at the broker without changing anything there.

A passive declare of what is missing closes its channel (AMQP 0-9-1, 404), and so does one that the user may not see.
So every look has a channel of its own, which is thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity

from notifier.broker.connection import LOST, open_once
from notifier.errors import BrokerError

#: Seconds for one answer. A quorum queue without a majority does not answer at all.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker tells of a queue that exists. ready: messages that wait for a consumer."""

    ready: int
    consumers: int


class Look:
    """Questions to one broker, over one connection. Nothing is declared, bound or published."""

    def __init__(self, channel: Channel) -> None:
        self._connection = channel.connection

    async def queue(self, name: str) -> QueueState | None:
        """The queue as it is now; None when it does not exist. Raises BrokerError when the broker does not tell."""
        async with self.channel() as channel:
            try:
                async with asyncio.timeout(_PATIENCE):
                    found = await channel.queue_declare(name, passive=True, durable=True)
            except ChannelNotFoundEntity:
                return None
            except TimeoutError:
                raise BrokerError(
                    f"the broker did not tell about queue {name} within {_PATIENCE:.0f} s: has it a leader?"
                ) from None
            except LOST as error:
                raise BrokerError(f"the broker did not tell about queue {name}: {error}") from None
        return QueueState(ready=found.message_count or 0, consumers=found.consumer_count or 0)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel to throw away; whatever it still holds unacknowledged goes back to its queue."""
        channel = await self._connection.channel(publisher_confirms=False)
        assert isinstance(channel, Channel)
        try:
            yield channel
        finally:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await channel.close()
            except (*LOST, TimeoutError):
                pass  # the broker closed it first


@asynccontextmanager
async def looking(urls: Sequence[str], name: str, patience: float) -> AsyncIterator[Look]:
    """Connect for a while. patience: seconds to try. Raises BrokerUnreachable, ConfigurationError."""
    link = await open_once(urls, name, patience)
    try:
        yield Look(await link.channel())
    finally:
        await link.close()
