"""Taking messages from the poison queue. AMQP cannot look at a message without taking it.

So whoever looks takes, does not acknowledge, and closes its channel: the broker puts everything back where it was. Each
look counts as a delivery of every message that was taken; the delivery limit of this queue is out of reach
(topology.NO_DELIVERY_LIMIT), so looking can never dead-letter anything. Two commands at once do not see what the other
one holds.

Messages are consumed, not fetched by basic.get: what a closed channel held of one consumer goes back in its old order,
while every basic.get of a quorum queue is a consumer of its own, and those go back in no order; nor does the order
survive when they are refused one by one (all measured on 3.10.8). So it is kept up to 2,000 messages, and with more
than that as long as all of them are looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from notifier.broker import poison
from notifier.broker.connection import was_cut
from notifier.broker.inspect import Look
from notifier.broker.poison import Poisoned
from notifier.broker.topology import Topology
from notifier.domain.wire import Message
from notifier.errors import BrokerError

T = TypeVar("T")

#: What a quorum queue hands to one consumer at most (FACTS §2). For more another one is added; up to 32 of them, that
#: is 64,000 messages, go back in the order of their names.
_MOST = 2000
#: Seconds without a message after which the queue is asked whether it has any left.
_SILENCE = 1.0
#: Seconds between two looks whether what was given back is there again.
_BLINK = 0.02
#: Seconds for an answer.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Taken:
    """One message in our hands. tag: what the broker calls this delivery."""

    poisoned: Poisoned
    tag: int


class Held:
    """What was taken in one look. count: messages that were there when it began; newer ones are left alone."""

    def __init__(self, look: Look, channel: Channel, topology: Topology, count: int) -> None:
        self._look = look
        self._channel = channel
        self._topology = topology
        self._arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        self._consumers = 0
        self._room = 0
        self._removed = 0
        self.count = count

    async def each(self) -> AsyncIterator[Taken]:
        """Take one after the other, oldest first. To be called once.

        Whoever wants a few only has taken the others as well: of messages that were given back before, those which
        are given back now come last, so that a look at the first ten would move them behind all others.
        """
        for done in range(self.count):
            if not self._room:
                await self._consume(min(self.count - done, _MOST))
            delivered = await self._next()
            if delivered is None:
                return
            self._room -= 1
            yield self._taken(delivered)

    async def remove(self, taken: Taken) -> None:
        """Acknowledge one that was taken here: it is gone from the queue."""
        await self._answered(self._channel.basic_ack(taken.tag))
        self._room += 1
        self._removed += 1

    @property
    def kept(self) -> int:
        """How many go back to the queue at the end."""
        return self.count - self._removed if self._consumers else 0

    async def _consume(self, most: int) -> None:
        async def arrive(message: DeliveredMessage) -> None:
            self._arrived.put_nowait(message)

        async def consume() -> None:
            name = f"look-{self._consumers:06}"
            async with asyncio.timeout(_PATIENCE):  # aiormq's own `timeout` can lose a cancellation in Python 3.11
                await self._channel.basic_qos(prefetch_count=most)
                await self._channel.basic_consume(self._topology.poison, arrive, consumer_tag=name)

        await self._answered(consume())
        self._consumers += 1
        self._room = most

    async def _next(self) -> DeliveredMessage | None:
        """The next one; None when there is none any more, since somebody else took what was counted."""
        while True:
            try:
                async with asyncio.timeout(_SILENCE):
                    return await self._arrived.get()
            except TimeoutError:
                state = await self._look.queue(self._topology.poison)
            if (state is None or not state.ready) and self._arrived.empty():
                return None

    def _taken(self, delivered: DeliveredMessage) -> Taken:
        properties = delivered.header.properties
        message = Message(
            body=delivered.body,
            headers=properties.headers or {},
            content_type=properties.content_type,
            message_id=properties.message_id,
            correlation_id=properties.correlation_id,
        )
        assert delivered.delivery_tag is not None
        return Taken(poison.read(message, self._topology), delivered.delivery_tag)

    async def _answered(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except TimeoutError:
            raise BrokerError(f"no answer about {self._topology.poison} within {_PATIENCE:.0f} s") from None
        except BaseException as error:
            if not was_cut(self._channel, error):
                raise
            raise BrokerError("the connection to RabbitMQ was lost; what is not told above is as it was") from None


@asynccontextmanager
async def holding(look: Look, topology: Topology) -> AsyncIterator[Held]:
    """Hold the poison queue's messages for a while; what was not removed goes back. A missing queue holds none."""
    state = await look.queue(topology.poison)
    async with look.channel() as channel:
        held = Held(look, channel, topology, state.ready if state is not None else 0)
        yield held
    await _given_back(look, topology, held.kept)


async def _given_back(look: Look, topology: Topology, kept: int) -> None:
    """Wait until the queue has them again, a moment after its consumer went: the next look would not see them else.

    By the clock, not by a cancellation: one that comes together with an answer is lost in Python 3.11 (bpo-42130), and
    where somebody else has them by now this would go on for ever.
    """
    deadline = time.monotonic() + _SILENCE
    while time.monotonic() < deadline:
        state = await look.queue(topology.poison)
        if state is None or state.ready >= kept:
            return
        await asyncio.sleep(_BLINK)
