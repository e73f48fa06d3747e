"""Trying out what a broker can do, with objects that belong to one connection alone and end with it.

Nothing of a namespace is touched, so a doctor may do this beside a running service.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import datetime

from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from notifier.broker.connection import open_once, was_cut
from notifier.broker.topology import Mechanism
from notifier.errors import BrokerError

#: Milliseconds that the probe waits in the broker.
DELAY = 300
#: Seconds after which a probe counts as lost.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a broker says of itself, and how many seconds connecting took."""

    product: str
    version: str
    seconds: float

    @property
    def release(self) -> tuple[int, ...]:
        """The version's numbers, for comparing; a part that is no number ends them."""
        numbers = []
        for part in self.version.split("."):
            if not part.isdigit():
                break
            numbers.append(int(part))
        return tuple(numbers)


@dataclass(frozen=True, slots=True)
class Delayed:
    """How a probe came back. late: seconds after it was due. clock: the broker's minus ours, seconds, at least; None
    where the broker's clock does not show (it tells whole seconds, and only native delay tells)."""

    late: float
    clock: float | None


async def greet(url: str, patience: float) -> Greeting:
    """Connect and say goodbye. Raises BrokerUnreachable, ConfigurationError (credentials, virtual host)."""
    began = time.monotonic()
    link = await open_once([url], "doctor", patience)
    try:
        seconds = time.monotonic() - began
        told = (await link.channel()).connection.server_properties
        return Greeting(str(told.get("product", "unknown broker")), str(told.get("version", "?")), seconds)
    finally:
        await link.close()


async def delay(url: str, mechanism: Mechanism, namespace: str, patience: float) -> Delayed:
    """Let one message wait in queues of our own. Raises BrokerError when it does not come back, or cannot be sent.

    namespace: begins their names, since a user's permissions often end with it.
    """
    link = await open_once([url], "doctor", patience)
    try:
        channel = await link.channel()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await _probe(channel, mechanism, f"{namespace}.doctor.{uuid.uuid4().hex}")
        except TimeoutError:
            raise BrokerError(f"a probe did not come back within {_PATIENCE:.0f} s") from None
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            raise BrokerError(f"the broker refused a probe: {error}") from None
    finally:
        await link.close()


async def hashing(url: str, namespace: str, patience: float) -> bool:
    """Whether the broker offers the exchange of partitions. Raises BrokerError when it does not tell."""
    link = await open_once([url], "doctor", patience)
    try:
        channel = await link.channel()
        name = f"{namespace}.doctor.{uuid.uuid4().hex}"
        try:
            async with asyncio.timeout(_PATIENCE):
                await channel.exchange_declare(name, exchange_type="x-consistent-hash", arguments={})
                await channel.exchange_delete(name)
        except TimeoutError:
            raise BrokerError(f"the broker did not answer within {_PATIENCE:.0f} s") from None
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            if "exchange type" in str(error):
                return False
            raise BrokerError(f"the broker refused an exchange: {error}") from None
        return True
    finally:
        await link.close()


async def _probe(channel: Channel, mechanism: Mechanism, name: str) -> Delayed:
    arrived: asyncio.Future[tuple[float, DeliveredMessage]] = asyncio.get_running_loop().create_future()

    async def arrive(message: DeliveredMessage) -> None:
        if not arrived.done():
            arrived.set_result((time.time(), message))

    due = f"{name}.due"
    await channel.queue_declare(due, exclusive=True)
    await channel.basic_consume(due, arrive, no_ack=True)
    if mechanism == "native":
        await channel.queue_declare(
            name,
            exclusive=True,
            arguments={"x-message-ttl": DELAY, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": due},
        )
        exchange, properties = "", spec.Basic.Properties()
    else:
        # Deleted with its only binding, that is when this connection ends and the queue with it.
        await channel.exchange_declare(
            name, exchange_type="x-delayed-message", auto_delete=True, arguments={"x-delayed-type": "direct"}
        )
        await channel.queue_bind(due, name, routing_key=name)
        exchange, properties = name, spec.Basic.Properties(headers={"x-delay": DELAY})
    sent = time.time()
    await channel.basic_publish(b"probe", exchange=exchange, routing_key=name, properties=properties)
    came, message = await arrived
    return Delayed(came - sent - DELAY / 1000, _clock(message, sent, came))


def _clock(message: DeliveredMessage, sent: float, came: float) -> float | None:
    """How far the broker's clock is off ours at least. It wrote down the whole second in which the wait ended."""
    deaths = (message.header.properties.headers or {}).get("x-death")
    moment = deaths[0].get("time") if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else None
    if not isinstance(moment, datetime):
        return None
    earliest, latest = moment.timestamp(), moment.timestamp() + 1
    if latest < sent:
        return latest - sent
    return max(0.0, earliest - came)
