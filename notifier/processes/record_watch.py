"""Watching the namespace's record, in one process of each service: a tier or a number of partitions that is new there,
or pruned, changes which processes the service has, on every machine, whoever made the change.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from notifier import logs
from notifier.broker.connection import Waiting
from notifier.broker.kept_record import KeptRecord
from notifier.broker.topology import Topology
from notifier.errors import ChildFailed, OtherPartitions
from notifier.processes.staffing import Staffing
from notifier.settings import Settings
from notifier.supervision.child import Parent

#: Seconds between two looks, and for the first one: under an alarm the broker does not answer.
LOOK, FIRST = 5.0, 10.0


class RecordWatch:
    """Tells the master what is to be staffed. Over a connection of its own: reading the record publishes.

    Until the master has been told once, another number of partitions than the settings' ends the service; later it is
    the record that counts, since somebody changed it while the service ran.
    """

    def __init__(self, parent: Parent, settings: Settings, topology: Topology) -> None:
        self._parent = parent
        self._settings = settings
        self._topology = topology
        self._told: Staffing | None = None
        self._unfinished = False
        self._record = KeptRecord(settings.amqp_urls, topology)
        self._watching: asyncio.Task[None] | None = None

    async def start(self, waiting: Waiting | None = None) -> None:
        """Look once, then every few seconds. Raises OtherPartitions, and what Link.start raises."""
        await self._record.start(waiting=waiting)
        try:
            async with asyncio.timeout(FIRST):
                found = await self._look()
        except TimeoutError:
            found = None  # a memory or disk alarm: later, then
        if found is not None:
            self._check(found)
            await self._tell(found)
        self._watching = asyncio.create_task(self._watch(), name="record watch")

    async def close(self) -> None:
        """Twice is fine."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._record.close()

    def _check(self, staffing: Staffing) -> None:
        if self._parent.boot.get("unstaffed") and staffing.partitions != self._settings.partitions:
            raise OtherPartitions(
                f"namespace {self._topology.namespace} has {_counted(staffing.partitions)}, and the settings say "
                f"{self._settings.partitions}. Either set NOTIFIER_PARTITIONS={staffing.partitions}, or change it for "
                f"all machines: notifier topology partitions {self._settings.partitions}"
            )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            try:
                found = await self._look()
                if found is not None:
                    await self._tell(found)
            except ChildFailed:
                continue  # the master is busy, or gone: then this process drains
            except Exception as error:
                logs.event("failed", logging.ERROR, exc_info=error, what="looking at the record")

    async def _look(self) -> Staffing | None:
        """None while there is nothing certain to be had. What a change that died has left behind is all staffed."""
        recorded = await self._record.read()
        if recorded is None or not recorded.numbers:
            return None
        unfinished, self._unfinished = self._unfinished, recorded.partitions is None
        if self._unfinished and not unfinished:
            return None  # it is being made just now, most likely
        now = max(recorded.numbers)
        staffing = Staffing(recorded.tiers, now, recorded.partitions_of_old(now))
        retired = [post.slot for post in staffing.posts(self._settings.tiers) if post.retired]
        leaving = await self._record.leaving(retired)
        return None if leaving is None else replace(staffing, leaving=tuple(sorted(leaving)))

    async def _tell(self, staffing: Staffing) -> None:
        if staffing != self._told:
            await self._parent.control("recast", {"cast": staffing.word()})
            self._told = staffing


def _counted(partitions: int) -> str:
    return "1 partition" if partitions == 1 else f"{partitions} partitions"
