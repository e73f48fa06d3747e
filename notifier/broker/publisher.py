"""Confirmed publishing: a call returns when the broker has the message, whatever happened to connections meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiormq import spec
from aiormq.channel import Channel
from aiormq.exceptions import ChannelClosed, DeliveryError, PublishError
from pamqp.header import ContentHeader

from notifier import logs
from notifier.broker import declare
from notifier.broker.canary import Canary
from notifier.broker.connection import Link, Waiting, was_cut
from notifier.broker.topology import Topology, Way
from notifier.domain.wire import Message
from notifier.errors import BrokerError, MessageTooLarge, PublishRefused, Unroutable

#: Bodies from this size on wait for the socket, so that hundreds in flight cannot fill the memory.
_LARGE = 16_384
#: Characters: even if each took four bytes, they fit into a frame of 128 KiB, RabbitMQ's own.
_HEADERS_NEVER_CHECKED = 16_384
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_SILENCE = 5.0
#: Seconds of refusals after which the channel is doubted: RabbitMQ 3.10 never tells a channel that was refused for a
#: length limit that the limit is gone, when it went with its policy (rabbit_fifo, evaluate_limit). A fresh one asks.
_DOUBT = 10.0
#: Seconds after which a refusal has nothing to do with the one before it: what is refused is published again sooner.
_LONG_AGO = 60.0
#: Seconds after which an unconfirmed publish counts as forgotten, if others that began `_SILENCE` later were confirmed;
#: a broker under an alarm confirms nothing. RabbitMQ 3.10 forgets one that met a quorum queue between two leaders
#: (rabbit_fifo_client: rejected, leader undefined), and all that follow it on its channel. Where there are no others,
#: since all wait for this one, a canary is sent `_SILENCE` before.
_FORGOTTEN = 15.0
#: How often `_FORGOTTEN` is doubled while new connections are of no use. A queue that is slow, or has no majority,
#: confirms nothing either while the channel confirms the canary, and each repetition may come twice later.
_DOUBLINGS = 4

_NO_EXCHANGE = re.compile(r"no exchange '(?P<exchange>[^']*)'")
_TOO_LARGE = re.compile(r"message size (?P<size>\d+)\D+(?P<most>\d+)")


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
        #: Since when, and when last, the broker refused what goes there.
        self._refused: dict[tuple[str, str], tuple[float, float]] = {}
        self._prepared = 0.0
        self._newest_confirmed = 0.0
        self._canary = Canary(topology.canary, self._note_confirmed)
        self._silent = False
        self._suspect: str | None = None
        #: New connections for forgotten publishes since a publish was last confirmed.
        self._in_vain = 0
        self._watch: asyncio.Task[None] | None = None

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect and declare; see Link.start for the arguments and errors."""
        await self._link.start(patience, waiting)
        self._watch = asyncio.create_task(self._watch_confirms(), name=f"{self._name} watch")

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled by their owners. Twice is fine."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self._canary.close()
        await self._link.close()

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._link.present is not None

    @property
    def blocked(self) -> bool:
        """Whether the broker reads nothing from this connection now; see Link.blocked."""
        return self._link.blocked

    @property
    def ending(self) -> asyncio.Future[Any] | None:
        """Done once the present connection is lost; see Link.ending."""
        return self._link.ending

    async def publish(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool = True) -> None:
        """Return once the broker confirmed.

        Raises Unroutable when no queue is bound for it, PublishRefused when the broker refused it (a queue at a
        length limit), MessageTooLarge when it takes nothing of that size; nothing is on the broker then. The message
        needs a message_id of its own.
        """
        if message.message_id is None:
            raise ValueError("a publish needs a message_id: returns are matched by it")
        self._unconfirmed[message.message_id] = began = time.monotonic()
        try:
            while not await self._published(message, exchange, routing_key, mandatory):
                pass
            self._refused.pop((exchange, routing_key), None)
            self._note_confirmed(began)
            self._in_vain = 0
        except PublishRefused:
            self._doubt(exchange, routing_key)
            raise
        finally:
            self._unconfirmed.pop(message.message_id, None)

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
                    self._link.reopen()  # declares what is missing
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    def declare_again(self) -> None:
        """Begin a new connection, on which everything is declared: for whoever met Unroutable and does not insist."""
        self._link.reopen()

    async def _published(self, message: Message, exchange: str, routing_key: str, mandatory: bool) -> bool:
        """One try on the open channel; False when the channel was lost before the confirm."""
        channel = await self._link.channel()
        properties = spec.Basic.Properties(
            headers=dict(message.headers),  # type: ignore[arg-type]  # any AMQP value of a foreign producer
            content_type=message.content_type,
            correlation_id=message.correlation_id,
            message_id=message.message_id,
            delivery_mode=2,
        )
        _check_size(message, properties, channel)
        try:
            await channel.basic_publish(
                message.body,
                exchange=exchange,
                routing_key=routing_key,
                mandatory=mandatory,
                wait=len(message.body) >= _LARGE,
                properties=properties,
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
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            if isinstance(error, ChannelClosed) and (fault := self._fault(error, message, exchange)):
                raise fault from None
            return False
        return True

    def _fault(self, closed: ChannelClosed, message: Message, exchange: str) -> BrokerError | None:
        """The broker closes the channel, under all that are in flight on it, for the fault of one. Is it this one's?

        A missing exchange of our own is no fault: the next channel declares it.
        """
        said = str(closed)
        if (found := _NO_EXCHANGE.search(said)) and found["exchange"] == exchange:
            ours = {declared.name for declared in self._topology.exchanges}
            return None if exchange in ours else Unroutable(f"the broker has no exchange {exchange}")
        if (found := _TOO_LARGE.search(said)) and len(message.body) > int(found["most"]):
            return MessageTooLarge(
                f"a message of {len(message.body):,} bytes: the broker takes at most {found['most']}"
            )
        return None

    def _doubt(self, exchange: str, routing_key: str) -> None:
        """Begin a new connection when refusals on this one have lasted for long."""
        now, key = time.monotonic(), (exchange, routing_key)
        since, last = self._refused.get(key, (now, now))
        if now - last > _LONG_AGO:  # nothing went there meanwhile, so nothing is known of that time
            since = now
        self._refused[key] = since, now
        if now - max(since, self._prepared) > _DOUBT:
            logs.event("publish.doubted", logging.WARNING, refused_s=round(now - since, 1), to=routing_key)
            self._prepared = now  # once, not by each that is refused meanwhile
            self._link.reopen()

    async def _prepare(self, channel: Channel) -> None:
        await declare.declare(channel, self._topology)
        self._prepared = time.monotonic()

    def _note_confirmed(self, began: float) -> None:
        self._newest_confirmed = max(self._newest_confirmed, began)

    async def _watch_confirms(self) -> None:
        while True:
            await asyncio.sleep(_SILENCE)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """A broker that blocks publishers is silent: say so, since a notification cannot settle meanwhile. One that has
        forgotten a publish is not: then begin a new connection, and the publish is repeated.
        """
        name, began = min(self._unconfirmed.items(), key=lambda each: each[1], default=("", now))
        self._tell_silence(now - began)
        channel, since = self._link.present, max(began, self._prepared)
        if channel is None:  # what is unconfirmed is repeated as soon as there is one
            self._suspect = None
            return
        patience = _FORGOTTEN * 2**self._in_vain
        overtaken = self._newest_confirmed > since + _SILENCE
        forgotten = overtaken and now - since > patience
        if forgotten and name == self._suspect:  # at two looks: not in the middle of many confirms after an alarm
            logs.event("publish.forgotten", logging.WARNING, unconfirmed_s=round(now - began, 1))
            self._in_vain = min(self._in_vain + 1, _DOUBLINGS)
            self._link.reopen()
        elif not overtaken and now - since > patience - _SILENCE:
            self._canary.send(channel, now)
        self._suspect = name if forgotten else None

    def _tell_silence(self, oldest: float) -> None:
        silent = oldest > _SILENCE
        if silent:
            logs.event(
                "publish.waiting",
                logging.WARNING,
                unconfirmed=len(self._unconfirmed),
                oldest_s=round(oldest, 1),
                hint="the broker does not confirm: is it down, under a memory or disk alarm, without a leader?",
            )
        elif self._silent:
            logs.event("publish.resumed")
        self._silent = silent


def _check_size(message: Message, properties: spec.Basic.Properties, channel: Channel) -> None:
    """Properties and headers travel in one frame; a larger one makes the broker end the connection, under all that
    are in flight, and again at every repetition.
    """
    if sum(_length(name) + _length(value) for name, value in message.headers.items()) < _HEADERS_NEVER_CHECKED:
        return
    size, most = len(ContentHeader(properties=properties).marshal()), channel.max_content_size
    if size > most:
        raise MessageTooLarge(f"the headers of a message hold {size:,} bytes: the broker takes at most {most:,}")


def _length(value: object) -> int:
    """Characters, where that is cheap to know; what is nested counts as long."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    return _HEADERS_NEVER_CHECKED if isinstance(value, dict | list) else 8
