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
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from aiormq.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.connection import connect
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from notifier import logs
from notifier.broker import fields
from notifier.broker.transport import Transport
from notifier.cancellation import heed_cancellation, is_cancelled
from notifier.errors import BrokerUnreachable, ConfigurationError, NotifierError
from notifier.settings import without_password

#: Seconds. A dead link is noticed after about three times this (FACTS §2).
HEARTBEAT = 6
_ATTEMPT_TIMEOUT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Seconds after which a connection counts as one that holds; losing a younger one is a failed attempt.
_STEADY = 5.0
#: Seconds that a connection may take to say goodbye before it is cut.
_GOODBYE = 3.0
#: Seconds that the end of a channel is waited for.
_PARTING = 10.0

#: What a lost connection or channel raises out of a pending call in most cases; `was_cut` knows them all.
LOST = (AMQPError, OSError, RuntimeError)

fields.install()

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
        self._unwanted = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._transport = Transport()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect for the first time.

        patience: seconds to try; None tries for ever. waiting: told a sentence now and then meanwhile.
        Raises BrokerUnreachable, ConfigurationError (credentials, permissions, topology).
        """
        await self._connect(patience, waiting, first=True)
        self._keeper = asyncio.create_task(self._keep(), name=f"{self._name} link")

    async def close(self) -> None:
        """End the connection. Calling it twice, or before start, is fine."""
        keeper, self._keeper = self._keeper, None
        while keeper is not None and not keeper.done():
            keeper.cancel()  # again and again, since a wait_for somewhere below may lose it in Python 3.11
            await asyncio.wait([keeper], timeout=1)
        self._open.clear()
        self._channel = None
        await self._hang_up()

    async def channel(self) -> Channel:
        """The open channel; waits while there is none."""
        while True:
            await self._open.wait()
            if (channel := self.present) is not None:
                return channel
            self._open.clear()  # it closed a moment ago; the keeper learns of it in its next turn

    @property
    def present(self) -> Channel | None:
        """The open channel, if there is one just now."""
        return self._channel if self._open.is_set() and self._channel and not self._channel.is_closed else None

    @property
    def blocked(self) -> bool:
        """Whether the broker said that it reads nothing from this connection now: it has a memory or disk alarm.

        RabbitMQ says so only after the first publish of a connection under an alarm, which it takes.
        """
        channel = self.present
        if channel is None:
            return False
        readiness = channel.connection.ready()  # all that aiormq shows of it: it waits while the connection is blocked
        try:
            readiness.send(None)
        except StopIteration:
            return False
        finally:
            readiness.close()
        return True

    @property
    def ending(self) -> asyncio.Future[Any] | None:
        """Done once the present connection is lost; None if there is none just now. Each call gives one of its own."""
        channel = self.present
        return None if channel is None else channel.closing

    def reopen(self) -> None:
        """Give up the present connection, also one that is being made, and make a new one.

        From here on `channel` returns only the new one. What was unacknowledged is delivered again.
        """
        self._open.clear()
        self._unwanted.set()

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            lost = await self._ended()
            held = time.monotonic() - began
            await self._hang_up()
            await _release_writers(lost)
            if held > _STEADY:
                pause = _FIRST_PAUSE
            else:  # one that never holds must not be made again at once, and again, and again
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, _LONGEST_PAUSE)
            await self._connect(None, None, first=False)

    async def _ended(self) -> Channel:
        """Wait until the channel is lost, or not wanted any more."""
        channel = self._channel
        assert channel is not None
        closing, unwanted = channel.closing, asyncio.create_task(self._unwanted.wait())
        try:
            await asyncio.wait([closing, unwanted], return_when=asyncio.FIRST_COMPLETED)
        finally:
            unwanted.cancel()
        self._open.clear()
        self._channel = None
        if closing.done() and not self._unwanted.is_set():
            logs.event("broker.lost", logging.WARNING, link=self._name, reason=_reason(channel))
        return channel

    async def _connect(self, patience: float | None, waiting: Waiting | None, *, first: bool) -> None:
        began, pause, tries, said = time.monotonic(), _FIRST_PAUSE, 0, time.monotonic()
        while True:
            failures = []
            for place, url in enumerate(self._urls):
                tries += 1
                try:
                    await self._try(url, _share(patience, began, len(self._urls) - place))
                except BaseException as error:
                    failures.append((url, self._failure(url, error, first=first)))
                else:
                    if tries > 1 or not first:
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

    def _failure(self, url: str, error: BaseException, *, first: bool) -> str:
        """Why an attempt failed, for people. Raises what trying again cannot mend, at a first connection."""
        heed_cancellation()
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        if first and (refusal := _refusal(url, error)):
            raise refusal from None
        lost = isinstance(error, (*LOST, asyncio.CancelledError)) or type(error) is Exception
        if not lost and not isinstance(error, NotifierError):  # a fault of ours
            if first:
                raise error
            logs.event("failed", logging.ERROR, exc_info=error, link=self._name)
        return _said(error)

    async def _try(self, url: str, patience: float) -> None:
        self._unwanted.clear()
        try:
            async with asyncio.timeout(patience):
                self._transport = Transport()
                self._connection = connection = await connect(
                    _with_heartbeat(url),
                    transport_factory=self._transport,
                    client_properties={"connection_name": f"notifier {self._name}"},
                )
            async with asyncio.timeout(_ATTEMPT_TIMEOUT):
                channel = await connection.channel(publisher_confirms=self._confirms, on_return_raises=True)
            await self._prepare(cast(Channel, channel))
            heed_cancellation()
        except BaseException:
            await self._hang_up()
            raise
        self._channel = cast(Channel, channel)
        if not self._unwanted.is_set():
            self._open.set()

    async def _hang_up(self) -> None:
        """End the connection, cutting it when it does not end by itself; afterwards nothing waits for it any more."""
        connection, self._connection = self._connection, None
        if connection is None:
            self._transport.cut()
            return
        closing = connection.closing
        goodbye = _apart(connection.close())
        try:
            await asyncio.wait([goodbye], timeout=_GOODBYE)
        finally:
            self._transport.cut()
        await asyncio.wait([closing, goodbye], timeout=_GOODBYE)


def cancelled_by_owner(error: BaseException) -> bool:
    """Whether this is the cancellation of the running task, by whoever owns it.

    aiormq hands the end of a connection to some of those who wait for it as a CancelledError of its own making.
    """
    return isinstance(error, asyncio.CancelledError) and is_cancelled()


def was_cut(channel: Channel, error: BaseException) -> bool:
    """Whether a call failed because its channel is gone, so that it may be made again on another.

    aiormq ends pending calls with whatever ended the connection: AMQP errors, errors of the socket or of decoding, a
    bare Exception when the peer ended it between two frames, a CancelledError when the heartbeat did. Any of them can
    have taken the place of a cancellation by the owner of the running task: that is raised here.
    """
    heed_cancellation()
    return channel.is_closed or isinstance(error, ChannelInvalidStateError)


@asynccontextmanager
async def beside(channel: Channel) -> AsyncIterator[Channel]:
    """A channel to throw away, on the same connection: what the broker refuses closes that one, and not this."""
    opened = await channel.connection.channel(publisher_confirms=False)
    assert isinstance(opened, Channel)
    try:
        yield opened
    finally:
        await throw_away(opened)


async def throw_away(channel: Channel) -> None:
    """Close a channel; whatever it still holds unacknowledged goes back to its queue.

    aiormq's `close` drops a cancellation that comes meanwhile, so it has a task of its own. One that was lost in the
    last call on the channel is raised here.
    """
    await asyncio.wait([_apart(channel.close())], timeout=_PARTING)
    heed_cancellation()


def _apart(closing: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """In a task of its own, which may fail."""
    task = asyncio.create_task(closing)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


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


def _share(patience: float | None, began: float, addresses: int) -> float:
    """Seconds for one attempt, so that an address which never answers leaves time for those after it."""
    if patience is None:
        return _ATTEMPT_TIMEOUT
    return min(_ATTEMPT_TIMEOUT, max(0.5, (patience - (time.monotonic() - began)) / addresses))


def _reason(channel: Channel) -> str:
    closing = channel.closing
    if closing.cancelled():
        return "closed"
    error = closing.exception()
    return "closed" if error is None else _said(error)


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "no answer"
    if isinstance(error, asyncio.CancelledError) or type(error) is Exception:
        return "the connection was lost"
    if isinstance(error, NotifierError):
        return str(error)
    if isinstance(error, InvalidFrameError) and "Connection.OpenOk" in str(error):
        return (
            "it refuses the virtual host: there is none of that name, the user has no access to it, or it is not up yet"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(part) for part in error.args if part) or type(error).__name__


def _refusal(url: str, error: BaseException) -> NotifierError | None:
    """The errors of a first connection that trying again cannot mend."""
    shown = without_password(url)
    if isinstance(error, ConfigurationError):
        return error
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return ConfigurationError(f"RabbitMQ at {shown} refuses the user name or password in NOTIFIER_AMQP_URL")
    if isinstance(error, ChannelAccessRefused):
        return ConfigurationError(
            f"RabbitMQ at {shown} refuses: {_said(error)}. The user in NOTIFIER_AMQP_URL must be allowed to configure, "
            "write and read what begins with the namespace, and to write to amq.default"
        )
    tls = error.__cause__
    if isinstance(tls, ssl.SSLError) and not isinstance(tls, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ConfigurationError(f"RabbitMQ at {shown} cannot be spoken to by TLS: {_said(error)}")
    return None
