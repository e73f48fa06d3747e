"""Taking messages from the poison queue. AMQP cannot look at a message without taking it.

So whoever looks takes, does not acknowledge, and throws its channel away: the broker puts everything back, in its old
order. Each such look counts as a delivery of every message that was taken; the delivery limit of this queue is out of
reach (topology.NO_DELIVERY_LIMIT), so looking can never dead-letter anything. Two commands at once do not see what the
other one holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiormq import spec
from aiormq.channel import Channel

from notifier.broker import poison
from notifier.broker.connection import was_cut
from notifier.broker.inspect import Look
from notifier.broker.poison import Poisoned
from notifier.broker.topology import Topology
from notifier.domain.wire import Message
from notifier.errors import BrokerError

T = TypeVar("T")

#: Seconds for one message.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Taken:
    """One message in our hands. tag: what the broker calls this delivery."""

    poisoned: Poisoned
    tag: int


class Held:
    """What was taken in one look. count: messages that were there when it began; newer ones are left alone."""

    def __init__(self, channel: Channel, topology: Topology, count: int) -> None:
        self._channel = channel
        self._topology = topology
        self.count = count

    async def each(self, most: int | None = None) -> AsyncIterator[Taken]:
        """Take one after the other, oldest first, at most so many."""
        for _ in range(self.count if most is None else min(self.count, most)):
            taken = await self._get()
            if taken is None:
                return
            yield taken

    async def remove(self, taken: Taken) -> None:
        """Acknowledge one that was taken here: it is gone from the queue."""
        await self._unless_lost(self._channel.basic_ack(taken.tag))

    async def _get(self) -> Taken | None:
        got = await self._unless_lost(self._channel.basic_get(self._topology.poison, timeout=_PATIENCE))
        if not isinstance(got.delivery, spec.Basic.GetOk):
            return None
        properties = got.header.properties
        message = Message(
            body=got.body,
            headers=properties.headers or {},
            content_type=properties.content_type,
            message_id=properties.message_id,
            correlation_id=properties.correlation_id,
        )
        assert got.delivery.delivery_tag is not None
        return Taken(poison.read(message, self._topology), got.delivery.delivery_tag)

    async def _unless_lost(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except TimeoutError:
            raise BrokerError(f"{self._topology.poison} gives nothing within {_PATIENCE:.0f} s") from None
        except BaseException as error:
            if not was_cut(self._channel, error):
                raise
            raise BrokerError("the connection to RabbitMQ was lost; what is not told above is as it was") from None


@asynccontextmanager
async def holding(look: Look, topology: Topology) -> AsyncIterator[Held]:
    """Hold the poison queue's messages for a while; what was not removed goes back. A missing queue holds none."""
    state = await look.queue(topology.poison)
    async with look.channel() as channel:
        yield Held(channel, topology, state.ready if state is not None else 0)
