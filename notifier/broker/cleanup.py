"""Removing everything of a namespace from a broker: for throw-away namespaces of `notifier dev` and of tests."""

from __future__ import annotations

from collections.abc import Sequence

from aiormq.channel import Channel

from notifier.broker.connection import open_once
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier


async def delete_namespace(url: str, namespace: str, tiers: Sequence[Tier] = ()) -> None:
    """Delete all queues and exchanges of a namespace with these tiers, and what they hold. Missing ones are fine.

    Only for namespaces that were made to be thrown away.
    """
    topology = Topology(namespace, tuple(tiers), "plugin")  # the larger set of names
    link = await open_once([url], "cleanup", patience=5)
    try:
        channel: Channel = await link.channel()
        for queue in reversed(topology.queues):
            await channel.queue_delete(queue.name, timeout=10)
        for exchange in topology.exchanges:
            await channel.exchange_delete(exchange.name, timeout=10)
    finally:
        await link.close()
