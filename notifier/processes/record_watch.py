"""Watching the namespace's record, in one process of each service: a tier or a number of partitions that is new there,
or pruned, changes which processes the service has, on every machine, whoever made the change.
"""

from __future__ import annotations

import asyncio
import logging

from aiormq.channel import Channel

from notifier import logs
from notifier.broker.connection import Link, Waiting, was_cut
from notifier.broker.record import Record, Recorded
from notifier.broker.topology import Topology
from notifier.errors import ChildFailed, OtherPartitions
from notifier.processes.staffing import Staffing
from notifier.settings import Settings
from notifier.supervision.child import Parent

#: Seconds between two looks, and for the first one: under an alarm the broker does not answer.
LOOK, FIRST = 5.0, 10.0


class RecordWatch:
    """Tells the master what is to be staffed. Over a connection of its own: reading the record publishes.

    epoch: of this process. In the first one another number of partitions than the settings' ends the service; later
    ones follow the record, since somebody changed it while the service ran.
    """

    def __init__(self, parent: Parent, settings: Settings, topology: Topology, epoch: int) -> None:
        self._parent = parent
        self._settings = settings
        self._topology = topology
        self._epoch = epoch
        self._told: Staffing | None = None
        self._record: Record | None = None
        self._link = Link(settings.amqp_urls, "record", self._prepare, confirms=True)
        self._watching: asyncio.Task[None] | None = None

    async def start(self, waiting: Waiting | None = None) -> None:
        """Look once, then every few seconds. Raises OtherPartitions, and what Link.start raises."""
        await self._link.start(waiting=waiting)
        try:
            async with asyncio.timeout(FIRST):
                found = await self._look()
        except TimeoutError:
            found = None  # a memory or disk alarm: later, then
        if found is not None:
            recorded, staffing = found
            if self._epoch == 1 and recorded.partitions not in (None, self._settings.partitions):
                raise OtherPartitions(
                    f"namespace {self._topology.namespace} has {_counted(staffing.partitions)}, and the settings say "
                    f"{self._settings.partitions}. Either set NOTIFIER_PARTITIONS={staffing.partitions}, or change it "
                    f"for all machines: notifier topology partitions {self._settings.partitions}"
                )
            await self._tell(staffing)
        self._watching = asyncio.create_task(self._watch(), name="record watch")

    async def close(self) -> None:
        """Twice is fine."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._link.close()

    async def _prepare(self, channel: Channel) -> None:
        self._record = Record(channel, self._topology)
        await self._record.open()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                found = await self._look()
                if found is not None:
                    await self._tell(found[1])
            except ChildFailed:
                continue  # the master is busy, or gone: then this process drains
            except Exception as error:
                logs.event("failed", logging.ERROR, exc_info=error, what="looking at the record")

    async def _look(self) -> tuple[Recorded, Staffing] | None:
        """None while there is nothing certain to be had."""
        channel = await self._link.channel()
        assert self._record is not None
        try:
            recorded = await self._record.read()
            staffing = self._staffing(recorded)
            posts = [post.slot for post in staffing.posts(self._settings.tiers) if post.retired]
            leaving = await self._record.leaving(posts)
        except BaseException as error:
            if not was_cut(channel, error):
                raise
            return None
        if recorded.partitions is None:
            return None
        return recorded, Staffing(staffing.tiers, staffing.partitions, staffing.old, tuple(sorted(leaving)))

    def _staffing(self, recorded: Recorded) -> Staffing:
        partitions = recorded.partitions or self._settings.partitions
        return Staffing(recorded.tiers, partitions, recorded.partitions_of_old())

    async def _tell(self, staffing: Staffing) -> None:
        if staffing != self._told:
            await self._parent.control("recast", {"cast": staffing.word()})
            self._told = staffing


def _counted(partitions: int) -> str:
    return "1 partition" if partitions == 1 else f"{partitions} partitions"
