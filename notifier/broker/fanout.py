"""What is said to all at once, and only to those who listen now: one connection, a fanout exchange, a queue that ends
with the connection.

Nothing here is kept: what is said while nobody listens is gone, and so is what one did not hear while it was away.
One connection both listens and speaks: a memory or disk alarm blocks what it says, while what others said still comes,
since nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence

from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from notifier.broker.connection import Link, Waiting, was_cut
from notifier.errors import BrokerUnreachable

_PATIENCE = 10.0
#: For one who does not read: it may fall behind by so many messages, and by so many milliseconds.
_LIMITS = {"x-max-length": 10_000, "x-message-ttl": 30_000}


class Fanout:
    """Kept until closed, across connections.

    on_message: called in the event loop with each message, our own included; must not block and must not raise.
    on_connected: called for every new connection, just before it can be spoken on. queue: the newest one's name.
    """

    def __init__(
        self,
        urls: Sequence[str],
        exchange: str,
        on_message: Callable[[bytes], None],
        on_connected: Callable[[], None],
        name: str = "fanout",
    ) -> None:
        self._exchange = exchange
        self._on_message = on_message
        self._on_connected = on_connected
        self.queue: str | None = None
        self._link = Link(urls, name, self._prepare, confirms=True)

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect and listen; see Link.start for the arguments and errors."""
        await self._link.start(patience, waiting)

    async def close(self) -> None:
        """Hear and say nothing more. Twice is fine."""
        await self._link.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._link.present is not None

    async def connection(self) -> None:
        """Return once there is a connection."""
        await self._link.channel()

    async def say(self, message: bytes, timeout: float = 5.0) -> None:
        """Return once the broker has it; it may be that nobody heard it.

        Raises BrokerUnreachable at once without a connection, and when the broker does not confirm in time: then it
        may have been heard.
        """
        channel = self._link.present
        if channel is None:
            raise BrokerUnreachable("there is no connection to RabbitMQ just now")
        properties = spec.Basic.Properties(message_id=uuid.uuid4().hex, delivery_mode=1)
        try:
            async with asyncio.timeout(timeout):
                await channel.basic_publish(
                    message, exchange=self._exchange, routing_key="", mandatory=False, properties=properties
                )
        except TimeoutError:
            raise BrokerUnreachable(f"RabbitMQ did not confirm a message within {timeout:g} s") from None
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            raise BrokerUnreachable("the connection to RabbitMQ was lost") from None

    async def _prepare(self, channel: Channel) -> None:
        """The queue's name begins with the namespace, as the names of all objects do that the user of the broker may
        be limited to; it is new for each connection, since the broker may still be keeping the last one's.
        """
        queue = self.queue = f"{self._exchange}.{uuid.uuid4().hex}"

        def deliver(delivered: DeliveredMessage) -> None:
            self._on_message(delivered.body)

        channel.on_consumer_cancel_callbacks.add(lambda _: self._link.reopen())
        async with asyncio.timeout(_PATIENCE):
            await channel.exchange_declare(self._exchange, exchange_type="fanout", durable=True)
            # transient: RabbitMQ 4.3 refuses those that are not exclusive
            await channel.queue_declare(
                queue, durable=False, exclusive=True, arguments={"x-queue-type": "classic", **_LIMITS}
            )
            await channel.queue_bind(queue, self._exchange)
            await channel.basic_consume(queue, deliver, no_ack=True)  # type: ignore[arg-type]
        self._on_connected()
