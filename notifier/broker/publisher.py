"""Confirmed publishing: a call returns when the broker has the message, whatever happened to connections meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from aiormq import spec
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError

from notifier import logs
from notifier.broker import declare
from notifier.broker.connection import LOST, Link, Waiting
from notifier.broker.topology import Topology, Way
from notifier.domain.wire import Message
from notifier.errors import PublishRefused, Unroutable

#: Bodies from this size on wait for the socket, so that hundreds in flight cannot fill the memory.
_LARGE = 16_384
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_SILENCE = 5.0


def fresh_message_id() -> str:
    """Unique per publish: the broker's returns are matched by it (FACTS §2)."""
    return uuid.uuid4().hex


class Publisher:
    """Publishes to one broker over one connection of its own; hundreds of calls may be in flight at once.

    A publish whose confirm has not come is repeated, with the same message_id, only after its connection is known to
    be lost: so nothing is published twice while the broker is merely slow. While the broker blocks publishers (memory
    or disk alarm) calls wait. The topology is declared on every new connection, so a broker that lost it heals.
    """

    def __init__(self, urls: Sequence[str], topology: Topology, name: str = "publisher") -> None:
        self._topology = topology
        self._link = Link(urls, name, self._prepare, confirms=True)
        self._name = name
        self._unconfirmed: dict[str, float] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect and declare; see Link.start for the arguments and errors."""
        await self._link.start(patience, waiting)
        self._watch = asyncio.create_task(self._tell_of_silence(), name=f"{self._name} watch")

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled by their owners. Twice is fine."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self._link.close()

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def publish(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool = True) -> None:
        """Return once the broker confirmed.

        Raises Unroutable when no queue is bound for it, PublishRefused when the broker refused it (a queue at a
        length limit); nothing is on the broker then. The message needs a message_id of its own.
        """
        if message.message_id is None:
            raise ValueError("a publish needs a message_id: returns are matched by it")
        self._unconfirmed[message.message_id] = time.monotonic()
        try:
            while not await self._published(message, exchange, routing_key, mandatory):
                pass
        finally:
            del self._unconfirmed[message.message_id]

    async def publish_by(self, way: Way, message: Message) -> None:
        """Publish so that the message waits as the way says."""
        if way.headers:
            message = replace(message, headers={**message.headers, **way.headers})
        await self.publish(message, way.exchange, way.routing_key, mandatory=way.mandatory)

    async def insist_by(self, way: Way, message: Message) -> None:
        """As publish_by, but a refusal or a missing route is told and tried again until the broker confirms."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self.publish_by(way, message)
            except (Unroutable, PublishRefused) as error:
                logs.event("publish.refused", logging.ERROR, why=str(error), again_s=round(pause, 1))
                if isinstance(error, Unroutable):
                    await self._link.reopen()  # declares what is missing
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _published(self, message: Message, exchange: str, routing_key: str, mandatory: bool) -> bool:
        """One try on the open channel; False when the connection was lost before the confirm."""
        channel = await self._link.channel()
        try:
            await channel.basic_publish(
                message.body,
                exchange=exchange,
                routing_key=routing_key,
                mandatory=mandatory,
                wait=len(message.body) >= _LARGE,
                properties=spec.Basic.Properties(
                    headers=dict(message.headers),  # type: ignore[arg-type]  # any AMQP value of a foreign producer
                    content_type=message.content_type,
                    correlation_id=message.correlation_id,
                    message_id=message.message_id,
                    delivery_mode=2,
                ),
            )
        except PublishError:
            raise Unroutable(
                f"no queue is bound for {routing_key!r} on exchange {exchange or '(default)'}: was it deleted? "
                "Every notifier of the namespace declares it again when it connects"
            ) from None
        except DeliveryError:
            raise PublishRefused(
                f"the broker refused a message for {routing_key!r} on exchange {exchange or '(default)'}: "
                "a queue behind it is at a length limit or has no leader"
            ) from None
        except ChannelNotFoundEntity:
            # The exchange is missing: the broker closed the channel, and the next one declares it again.
            return False
        except LOST:
            return False
        except asyncio.CancelledError:
            if _cancelled_by_us() or not channel.is_closed:
                raise
            return False  # aiormq hands the end of a connection to its waiters as a cancellation
        return True

    async def _prepare(self, channel: Channel) -> None:
        await declare.declare(channel, self._topology)

    async def _tell_of_silence(self) -> None:
        """A broker that blocks publishers is silent; say so, since a notification cannot settle meanwhile."""
        told = False
        while True:
            await asyncio.sleep(_SILENCE)
            oldest = min(self._unconfirmed.values(), default=None)
            silent = oldest is not None and time.monotonic() - oldest > _SILENCE
            if silent and oldest is not None:
                logs.event(
                    "publish.waiting",
                    logging.WARNING,
                    unconfirmed=len(self._unconfirmed),
                    oldest_s=round(time.monotonic() - oldest, 1),
                    hint="the broker does not confirm: is it down, or is a memory or disk alarm raised?",
                )
            elif told:
                logs.event("publish.resumed")
            told = silent


def _cancelled_by_us() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
