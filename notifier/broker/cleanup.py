"""Removing everything of a namespace from a broker: for throw-away namespaces of `notifier dev` and of tests."""

from __future__ import annotations

from collections.abc import Sequence

from aiormq.channel import Channel

from notifier.broker.connection import open_once
from notifier.broker.topology import Topology, owned_names
from notifier.domain.tier import Tier


async def delete_namespace(url: str, namespace: str, tiers: Sequence[Tier] = (), partitions: int = 1) -> None:
    """Delete all queues and exchanges of a namespace with these tiers, and what they hold. Missing ones are fine.

    partitions: the most it ever had. Only for namespaces that were made to be thrown away.
    """
    for number in range(1, partitions + 1):  # each number has a mark of its own
        await _delete(url, Topology(namespace, tuple(tiers), "plugin", number))  # the larger set of names


async def _delete(url: str, topology: Topology) -> None:
    link = await open_once([url], "cleanup", patience=5)
    try:
        channel: Channel = await link.channel()
        queues, exchanges = owned_names(topology)
        for queue in reversed(list(queues)):
            await channel.queue_delete(queue, timeout=10)
        for exchange in exchanges:
            await channel.exchange_delete(exchange, timeout=10)
    finally:
        await link.close()
