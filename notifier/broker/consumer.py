"""Taking deliveries of one queue over a connection of its own, apart from publishing.

A memory or disk alarm blocks every connection that publishes, its acknowledgements included (FACTS §2): so acks travel
here, where nothing is ever published.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from notifier import logs
from notifier.broker import declare
from notifier.broker.connection import Link, Waiting, was_cut
from notifier.broker.topology import Queue, Topology
from notifier.domain.wire import Message

#: Seconds for the broker's answers. Not given to aiormq: its wait_for, in Python 3.11, loses a cancellation that comes
#: together with the answer, and whoever cancelled waits for ever.
_PATIENCE = 30.0
_CANCEL_PATIENCE = 3.0  # less than an operator waits for a pause


class Delivery:
    """One message in our hands, not yet acknowledged.

    redelivered: the broker handed it out before, to whomever. It goes stale with its channel: the broker then
    delivers it again, and an acknowledgement of the old delivery means nothing.
    """

    __slots__ = ("_channel", "_tag", "message", "redelivered")

    def __init__(self, message: Message, redelivered: bool, channel: Channel, tag: int) -> None:
        self.message = message
        self.redelivered = redelivered
        self._channel = channel
        self._tag = tag

    @property
    def stale(self) -> bool:
        """Whether the channel it came by is gone."""
        return self._channel.is_closed

    def beside(self, other: Delivery) -> bool:
        """Whether both came by the same channel."""
        return self._channel is other._channel

    async def ack(self) -> bool:
        """Acknowledge; False when the delivery went stale first, so the message will come again."""
        try:
            await self._channel.basic_ack(self._tag, wait=False)
        except BaseException as error:
            if not was_cut(self._channel, error):
                raise
            return False
        return True

    async def give_back(self) -> None:
        """Return it to its queue at once, for whoever takes it then; fine also if it went stale."""
        try:
            await self._channel.basic_nack(self._tag, requeue=True, wait=False)
        except BaseException as error:
            if not was_cut(self._channel, error):
                raise


class Consumer:
    """Consumes one queue with a bounded prefetch, for as long as it is open and not stopped, across connections.

    on_delivery: called in the event loop for every delivery; must not block and must not raise. own: the queue, where
    it is none of the topology: nothing leads into it any more.
    """

    def __init__(
        self,
        urls: Sequence[str],
        topology: Topology,
        queue: str,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        name: str = "consumer",
        *,
        own: Queue | None = None,
    ) -> None:
        self._topology = topology
        self._queue = queue
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._own = own
        self._taking = True
        self._consumes = asyncio.Event()
        self._tag: str | None = None
        self._link = Link(urls, name, self._prepare)

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect, declare, consume; see Link.start for the arguments and errors."""
        await self._link.start(patience, waiting)

    @property
    def prefetch(self) -> int:
        """Deliveries that may be in our hands at once."""
        return self._prefetch

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._link.present is not None

    def widen(self, prefetch: int) -> None:
        """Consume with another prefetch from now on.

        The connection is made anew, since a prefetch counts for new consumers only; what is in our hands is
        delivered again and must be adopted.
        """
        self._prefetch = prefetch
        self._link.reopen()

    async def consuming(self) -> object:
        """Return once there is a connection: that one, for telling whether it is still the same."""
        return await self._link.channel()

    async def taking(self) -> object:
        """Return once deliveries can come: what stands for this time of taking, for telling whether it is still that.

        Waits while stopped.
        """
        while True:
            await self._consumes.wait()
            await self._link.channel()
            if self._consumes.is_set():
                return self._tag

    async def stop_taking(self) -> bool:
        """Cancel the consumer; what was delivered can still be acknowledged. Twice is fine.

        False when the broker did not say in time that it is so: deliveries may still come.
        """
        self._taking = False
        self._consumes.clear()
        channel, tag, self._tag = self._link.present, self._tag, None
        if channel is not None and tag is not None:  # without a connection nothing is being taken either
            return await self._cancel(channel, tag)
        return True

    def leave(self) -> None:
        """Stop taking by ending the connection; another one is made, which does not consume. Twice is fine.

        The broker takes back at once, and in its order, all that is in our hands. A cancelled consumer would keep that
        while the next one of a partition gets what comes after it (FACTS §1).
        """
        self._taking = False
        self._consumes.clear()
        self._tag = None
        self._link.reopen()

    async def take_again(self) -> None:
        """Consume again after `stop_taking` or `leave`; returns when it is so, or when a connection will do it.

        Twice is fine, and so is a moment in which there is no connection. Not to be called after `close`.
        """
        if self._taking:
            return
        self._taking = True
        channel = self._link.present
        if channel is None:
            self._link.reopen()  # one that is being made may have passed the point at which it consumes
            return
        try:
            await self._consume(channel)
        except BaseException as error:
            if not was_cut(channel, error) and not isinstance(error, TimeoutError):
                raise
            self._link.reopen()

    async def close(self) -> None:
        """Close the connection; the broker gives what is unacknowledged to others. Twice is fine."""
        self._taking = False
        await self._link.close()

    async def _prepare(self, channel: Channel) -> None:
        await declare.declare(channel, self._topology)
        if self._own is not None:
            await declare.declare_one(channel, self._own)
        if self._taking:
            await self._consume(channel)

    async def _consume(self, channel: Channel) -> None:
        def deliver(delivered: DeliveredMessage) -> None:
            self._on_delivery(_delivery(delivered, channel))

        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        async with asyncio.timeout(_PATIENCE):
            await channel.basic_qos(prefetch_count=self._prefetch)
            consuming = await channel.basic_consume(self._queue, deliver)  # type: ignore[arg-type]
        self._tag = consuming.consumer_tag
        if self._taking:
            self._consumes.set()
        elif self._tag is not None:  # told to stop meanwhile
            tag, self._tag = self._tag, None
            await self._cancel(channel, tag)

    def _cancelled(self, _: spec.Basic.Cancel) -> None:
        logs.event("broker.cancelled", logging.WARNING, queue=self._queue, hint="was the queue deleted?")
        self._link.reopen()  # declares it again and consumes

    @staticmethod
    async def _cancel(channel: Channel, tag: str) -> bool:
        try:
            async with asyncio.timeout(_CANCEL_PATIENCE):
                await channel.basic_cancel(tag)
        except BaseException as error:
            if was_cut(channel, error):
                return True
            if isinstance(error, TimeoutError):
                return False
            raise
        return True


def _delivery(delivered: DeliveredMessage, channel: Channel) -> Delivery:
    properties = delivered.header.properties
    frame = delivered.delivery
    assert isinstance(frame, spec.Basic.Deliver)
    assert frame.delivery_tag is not None
    message = Message(
        body=delivered.body,
        headers=properties.headers or {},
        content_type=properties.content_type,
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
    )
    return Delivery(message, bool(frame.redelivered), channel, frame.delivery_tag)
