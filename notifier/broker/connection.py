"""A connection to RabbitMQ that is kept: several addresses tried in turn, jittered backoff, made again when lost.

aio-pika's robust connection is not used: it knows one address, waits without jitter, and hides the moment at which
a connection is known to be lost, which is the moment from which an unconfirmed publish may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import aio_pika
from aiormq.channel import Channel
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelInvalidStateError,
    ConnectionNotAllowed,
    ProbableAuthenticationError,
)
from yarl import URL

from notifier import logs
from notifier.errors import BrokerError, BrokerUnreachable, ConfigurationError, NotifierError
from notifier.settings import without_password

#: Seconds. A dead link is noticed after about three times this (FACTS §2).
HEARTBEAT = 6
_ATTEMPT_TIMEOUT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

#: Everything that a lost connection or channel raises out of a pending call.
LOST = (AMQPError, ChannelInvalidStateError, OSError, RuntimeError)

# What they would say is said here, once, with the address and what follows.
for _library in ("aio_pika", "aiormq"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)

Prepare = Callable[[Channel], Awaitable[None]]
Waiting = Callable[[str], Awaitable[None]]


class Link:
    """One connection with one channel, kept until closed.

    prepare: what makes a fresh channel usable (declare, consume); runs for every new one, before anyone gets it.
    confirms: publisher confirms on the channel; unroutable mandatory messages then raise.
    """

    def __init__(self, urls: Sequence[str], name: str, prepare: Prepare, *, confirms: bool = False) -> None:
        self._urls = urls
        self._name = name
        self._prepare = prepare
        self._confirms = confirms
        self._channel: Channel | None = None
        self._open = asyncio.Event()
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reopening = False

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect for the first time.

        patience: seconds to try; None tries for ever. waiting: told a sentence now and then meanwhile.
        Raises BrokerUnreachable, ConfigurationError (credentials, virtual host, topology).
        """
        await self._connect(patience, waiting, first=True)
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._name} link")

    async def close(self) -> None:
        """End the connection. Calling it twice, or before start, is fine."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        self._open.clear()
        self._channel = None
        await self._hang_up()

    async def channel(self) -> Channel:
        """The open channel; waits while there is none."""
        while True:
            await self._open.wait()
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            await asyncio.sleep(0)  # closed a moment ago; the keeper learns of it within a few turns of the loop

    async def reopen(self) -> None:
        """Give up the present connection and make a new one; what was unacknowledged is delivered again."""
        if self._channel is None or self._reopening:
            return  # it is being made already
        self._reopening = True
        channel = self._channel
        await self._hang_up()
        await asyncio.wait([channel.closing])

    async def _keep(self) -> None:
        while True:
            assert self._channel is not None
            await asyncio.wait([self._channel.closing])
            lost, self._channel = self._channel, None
            self._open.clear()
            await self._hang_up()
            await _release_writers(lost)
            if self._reopening:
                self._reopening = False
            else:
                logs.event("broker.lost", logging.WARNING, link=self._name, reason=_reason(lost))
            await self._connect(None, None, first=False)

    async def _connect(self, patience: float | None, waiting: Waiting | None, *, first: bool) -> None:
        began, pause, tries, said = time.monotonic(), _FIRST_PAUSE, 0, time.monotonic()
        while True:
            failures = []
            for url in self._urls:
                tries += 1
                try:
                    await self._try(url, remaining=_left(patience, began))
                except ConfigurationError:
                    if first:
                        raise
                    failures.append((url, "its objects conflict"))
                    logs.event("broker.refused", logging.ERROR, link=self._name, address=without_password(url))
                except (*LOST, BrokerError, TimeoutError) as error:
                    if first and (refusal := _refusal(url, error)):
                        raise refusal from None
                    failures.append((url, _said(error)))
                else:
                    if tries > len(self._urls) or not first:
                        logs.event("broker.connected", link=self._name, address=without_password(url), tries=tries)
                    return
            elapsed = time.monotonic() - began
            told = "; ".join(f"{without_password(url)}: {why}" for url, why in failures)
            if patience is not None and elapsed >= patience:
                raise BrokerUnreachable(
                    f"RabbitMQ could not be reached in {elapsed:.0f} s ({tries} tries): {told}. "
                    "Is it running, and is NOTIFIER_AMQP_URL right?"
                )
            if time.monotonic() - said >= 5 or tries == len(self._urls):
                said = time.monotonic()
                logs.event("broker.unreachable", logging.WARNING, link=self._name, tried_s=round(elapsed, 1), why=told)
            if waiting is not None:
                await waiting(f"waiting for the broker for {elapsed:.0f} s: {told}")
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _try(self, url: str, remaining: float) -> None:
        async with asyncio.timeout(min(remaining, _ATTEMPT_TIMEOUT)):
            self._connection = await aio_pika.connect(
                _with_heartbeat(url), client_properties={"connection_name": f"notifier {self._name}"}
            )
        try:
            transport = self._connection.transport
            assert transport is not None
            async with asyncio.timeout(_ATTEMPT_TIMEOUT):
                channel = cast(
                    Channel,
                    await transport.connection.channel(publisher_confirms=self._confirms, on_return_raises=True),
                )
            await self._prepare(channel)
        except BaseException:
            await self._hang_up()
            raise
        self._channel = channel
        self._open.set()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(5):
                await connection.close()
        except (*LOST, TimeoutError, asyncio.CancelledError):
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise


async def _release_writers(lost: Channel) -> None:
    """Let go whoever waits to write to a connection whose writer is gone: aiormq's bounded write queue keeps them.

    Once through, they meet the closed channel and fail as they should.
    """
    queue = lost.connection.write_queue
    while not queue.empty():
        queue.get_nowait()
        await asyncio.sleep(0)


async def open_once(urls: Sequence[str], name: str, patience: float) -> Link:
    """A link for a command that looks at the broker: plain channel, nothing declared."""

    async def nothing(_: Channel) -> None:
        return None

    link = Link(urls, name, nothing)
    await link.start(patience)
    return link


def _with_heartbeat(url: str) -> URL:
    parsed = URL(url)
    return parsed if "heartbeat" in parsed.query else parsed.update_query(heartbeat=str(HEARTBEAT))


def _left(patience: float | None, began: float) -> float:
    return _ATTEMPT_TIMEOUT if patience is None else max(0.5, patience - (time.monotonic() - began))


def _reason(channel: Channel) -> str:
    closing = channel.closing
    if closing.cancelled():
        return "closed"
    error = closing.exception()
    return "closed" if error is None else _said(error)


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer"
    if isinstance(error, NotifierError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(part) for part in error.args if part) or type(error).__name__


def _refusal(url: str, error: BaseException) -> NotifierError | None:
    """The errors of a first connection that trying again cannot mend."""
    shown = without_password(url)
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return ConfigurationError(f"RabbitMQ at {shown} refuses the user name or password in NOTIFIER_AMQP_URL")
    if isinstance(error, ConnectionNotAllowed):
        return ConfigurationError(f"RabbitMQ at {shown} refuses the virtual host in NOTIFIER_AMQP_URL: {_said(error)}")
    if isinstance(error, ssl.SSLError):
        return ConfigurationError(f"RabbitMQ at {shown} cannot be spoken to by TLS: {_said(error)}")
    return None
