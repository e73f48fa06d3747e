"""The broker of a benchmark: the one that is named, else one of our own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aio_pika

from benchmarks.errors import BenchmarkFailed
from benchmarks.sides import TIER
from notifier.broker import container
from notifier.broker.cleanup import delete_namespace
from notifier.broker.connection import open_once
from notifier.broker.node import PrivateNode, installed
from notifier.domain.tier import Tier
from notifier.settings import load

#: Seconds to try to reach a broker that is named.
_PATIENCE = 5.0


#: Begin a new log of quorum queues, and wait until the old one is written out. The first line only asks for it, and the
#: second one mostly waits until it has begun; where it does not, a service takes longer to start than the rest of this.
_WRITE_LOG_OUT = (
    "ra_log_wal:force_roll_over(ra_log_wal), sys:get_status(ra_log_wal), "
    "ok = ra_log_segment_writer:await(ra_log_segment_writer)."
)


@dataclass(frozen=True, slots=True)
class Broker:
    """A RabbitMQ. version: as it says itself. node: where it is ours, and can be seen and told more."""

    url: str
    version: str
    node: PrivateNode | None = None

    @property
    def pid(self) -> int | None:
        """Of its Erlang VM, whose CPU time can be read; None where it is not ours."""
        return None if self.node is None else self.node.pid

    async def settle(self) -> None:
        """Have it write out its log of quorum queues now, before a run.

        By itself it does so whenever the log has reached 512 MB, after about 75,000 notifications: both cores are busy
        with that for up to a second, every sixth run of 12,000, whatever is measured in it. A broker that is not ours
        is left alone. Raises BenchmarkFailed when it takes a minute.
        """
        if self.node is None:
            return
        try:
            await self.node.ctl("eval", _WRITE_LOG_OUT)
        except TimeoutError:
            raise BenchmarkFailed("the broker does not write out its log of quorum queues within a minute") from None

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
    it, so that it works as one in service does (see `settle`). But it does not look after the port mapper, for which
    RabbitMQ starts a second Erlang VM each minute: 0.4 s of CPU, which would fall into one run and not into the next.
    Raises NoBroker, BrokerUnreachable, and ConfigurationError for an address that is none.
    """
    if os.environ.get("NOTIFIER_AMQP_URL"):
        first = load().amqp_urls[0]
        yield Broker(first, await _version(first))
        return
    if installed() is None and container.engine_answers():
        async with container.running() as url:
            yield Broker(url, await _version(url))
        return
    async with await PrivateNode.start(large_log=True) as node:
        await node.ctl("eval", "sys:suspend(rabbit_epmd_monitor).")
        yield Broker(node.url, await _version(node.url), node)


async def _version(url: str) -> str:
    link = await open_once([url], "bench", _PATIENCE)
    try:
        properties = (await link.channel()).connection.server_properties
        return "{} {} ({})".format(*(_text(properties.get(name)) for name in ("product", "version", "platform")))
    finally:
        await link.close()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
