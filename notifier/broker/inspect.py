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
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from notifier.broker import declare
from notifier.broker.connection import open_once, throw_away, was_cut
from notifier.broker.topology import Exchange, Queue, Topology
from notifier.cancellation import heed_cancellation
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
        try:
            async with self._asking(f"queue {name}") as channel:
                found = await channel.queue_declare(name, passive=True, durable=True)
        except ChannelNotFoundEntity:
            return None
        return QueueState(ready=found.message_count or 0, consumers=found.consumer_count or 0)

    async def exchange(self, name: str) -> bool:
        """Whether the exchange exists. Raises BrokerError when the broker does not tell."""
        try:
            async with self._asking(f"exchange {name}") as channel:
                await channel.exchange_declare(name, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    async def difference(self, wanted: Queue | Exchange, topology: Topology) -> str | None:
        """How an object that exists differs from what notifier would declare; None when it does not.

        A passive declare compares nothing, so this is a real one: of something that exists it changes nothing. Only
        if somebody deletes it in the millisecond since it was seen it would be made, as `notifier run` would make it.
        """
        try:
            async with self._asking(wanted.name) as channel:
                await declare.declare_one(channel, wanted)
        except ChannelPreconditionFailed as error:
            return str(declare.explained(error, topology))
        return None

    @asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[Channel]:
        """A throw-away channel for one question; refusals that answer it pass, what is no answer is BrokerError."""
        async with self.channel() as channel:
            try:
                async with asyncio.timeout(_PATIENCE):
                    yield channel
            except (ChannelNotFoundEntity, ChannelPreconditionFailed):
                raise
            except ChannelAccessRefused:
                raise BrokerError(f"the user in NOTIFIER_AMQP_URL may not look at {what}") from None
            except TimeoutError:
                raise BrokerError(f"no answer about {what} within {_PATIENCE:.0f} s: has it a leader?") from None
            except BaseException as error:
                if not was_cut(channel, error):
                    raise
                raise BrokerError(f"the broker did not tell about {what}: the connection was lost") from None

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel to throw away; whatever it still holds unacknowledged goes back to its queue."""
        channel = await self._opened()
        try:
            yield channel
        finally:
            await throw_away(channel)

    async def _opened(self) -> Channel:
        try:
            async with asyncio.timeout(_PATIENCE):
                channel = await self._connection.channel(publisher_confirms=False)
        except (Exception, asyncio.CancelledError):
            heed_cancellation()
            raise BrokerError("the connection to RabbitMQ was lost while its objects were looked at") from None
        assert isinstance(channel, Channel)
        return channel


@asynccontextmanager
async def looking(urls: Sequence[str], name: str, patience: float) -> AsyncIterator[Look]:
    """Connect for a while. patience: seconds to try. Raises BrokerUnreachable, ConfigurationError."""
    link = await open_once(urls, name, patience)
    try:
        yield Look(await link.channel())
    finally:
        await link.close()
