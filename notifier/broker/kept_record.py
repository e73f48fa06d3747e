"""Looking at the record: once, making nothing, or again and again over a connection of its own that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiormq.channel import Channel

from notifier.broker.connection import Link, Waiting, was_cut
from notifier.broker.inspect import Look
from notifier.broker.record import Record, Recorded, reading
from notifier.broker.topology import Topology
from notifier.errors import BrokerError


class KeptRecord:
    """Kept until closed, across connections."""

    def __init__(self, urls: Sequence[str], topology: Topology, name: str = "record") -> None:
        self._topology = topology
        self._link = Link(urls, name, self._prepare, confirms=True)
        self._record: Record | None = None

    async def start(self, patience: float | None = None, waiting: Waiting | None = None) -> None:
        """Connect; see Link.start for the arguments and errors."""
        await self._link.start(patience, waiting)

    async def close(self) -> None:
        """Twice is fine."""
        await self._link.close()

    async def read(self) -> Recorded | None:
        """All of it, as soon as there is a connection; None when that is lost meanwhile."""
        channel = await self._link.channel()
        assert self._record is not None
        try:
            return await self._record.read()
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            return None

    async def leaving(self, slots: Sequence[str]) -> Sequence[str] | None:
        """Those of the slots that somebody is pruning just now; None likewise."""
        channel = await self._link.channel()
        assert self._record is not None
        try:
            return await self._record.leaving(slots)
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            return None

    async def _prepare(self, channel: Channel) -> None:
        self._record = Record(channel, self._topology)
        await self._record.open()


async def looked_at(look: Look, urls: Sequence[str], topology: Topology, name: str, patience: float) -> Recorded:
    """What is recorded, without making anything of it. Raises BrokerError when the broker does not tell."""
    if not await look.exchange(topology.record):
        return Recorded((), (), ())
    try:
        async with reading(urls, topology, name, patience) as record, asyncio.timeout(patience):
            return await record.read()
    except TimeoutError:
        raise BrokerError(
            "the record of the namespace could not be read: RabbitMQ takes no messages (a memory or disk alarm?)"
        ) from None
