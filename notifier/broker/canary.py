"""A publish that no queue gets. The channel confirms it by itself: so it tells whether the broker confirms anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiormq import spec
from aiormq.channel import Channel


class Canary:
    """Publishes one message at a time to a name that no queue has. Nothing waits for it, and it is never repeated.

    It goes by the default exchange, which looks for a queue of that name and for nothing else: no policy can give it an
    alternate exchange. The broker drops what is not mandatory there, and confirms it.

    routing_key: the name. confirmed: called with the moment at which a canary was sent, once it is confirmed.
    """

    def __init__(self, routing_key: str, confirmed: Callable[[float], None]) -> None:
        self._routing_key = routing_key
        self._confirmed = confirmed
        self._channel: Channel | None = None
        self._under_way: asyncio.Task[None] | None = None

    def send(self, channel: Channel, now: float) -> None:
        """Send one and return at once; none while another is unconfirmed on this channel."""
        if self._under_way is not None and not self._under_way.done():
            if channel is self._channel:
                return
            self._under_way.cancel()
        self._channel = channel
        self._under_way = asyncio.create_task(self._publish(channel, now), name="canary")
        # However it ends otherwise, it was not confirmed. A lost channel is told by whoever keeps it.
        self._under_way.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def close(self) -> None:
        """Give up the one that is under way. Twice is fine."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()
            await asyncio.wait([under_way])

    async def _publish(self, channel: Channel, now: float) -> None:
        properties = spec.Basic.Properties(delivery_mode=1)
        await channel.basic_publish(
            b"", exchange="", routing_key=self._routing_key, mandatory=False, wait=False, properties=properties
        )
        self._confirmed(now)
