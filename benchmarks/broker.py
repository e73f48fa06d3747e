"""The broker of a benchmark: the one that is named, else one of our own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aio_pika

from benchmarks.sides import TIER
from notifier.broker import container
from notifier.broker.cleanup import delete_namespace
from notifier.broker.connection import open_once
from notifier.broker.node import PrivateNode, installed
from notifier.domain.tier import Tier
from notifier.settings import load

#: Seconds to try to reach a broker that is named.
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Broker:
    """A RabbitMQ. pid: of its Erlang VM, where it is ours and its CPU time can be read. version: as it says itself."""

    url: str
    pid: int | None
    version: str

    async def ready(self, queue: str) -> int:
        """How many messages wait in a queue for a consumer."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    async def forget(self, namespace: str, tiers: Sequence[Tier] = (Tier.parse(TIER),)) -> None:
        """Delete what a run left on the broker."""
        await delete_namespace(self.url, namespace, tiers)


@contextlib.asynccontextmanager
async def open_broker() -> AsyncIterator[Broker]:
    """A broker until the end of the block: that of NOTIFIER_AMQP_URL, else a private node, else a container.

    A node comes before a container, unlike elsewhere: what it costs can be seen. Its log is as large as RabbitMQ makes
    it, so that it works as one in service does. But it does not look after the port mapper, for which RabbitMQ starts a
    second Erlang VM each minute: 0.4 s of CPU, which would fall into one run and not into the next. Raises NoBroker,
    BrokerUnreachable, and ConfigurationError for an address that is none.
    """
    if os.environ.get("NOTIFIER_AMQP_URL"):
        first = load().amqp_urls[0]
        yield Broker(first, None, await _version(first))
        return
    if installed() is None and container.engine_answers():
        async with container.running() as url:
            yield Broker(url, None, await _version(url))
        return
    async with await PrivateNode.start(large_log=True) as node:
        await node.ctl("eval", "sys:suspend(rabbit_epmd_monitor).")
        yield Broker(node.url, node.pid, await _version(node.url))


async def _version(url: str) -> str:
    link = await open_once([url], "bench", _PATIENCE)
    try:
        properties = (await link.channel()).connection.server_properties
        return "{} {} ({})".format(*(_text(properties.get(name)) for name in ("product", "version", "platform")))
    finally:
        await link.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
