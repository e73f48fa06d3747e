"""What the API process is made of: HTTP on one side, the broker, the ledger and the other processes on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop
from setproctitle import setproctitle

from notifier import logs
from notifier.api.app import create_app
from notifier.api.depths import Depths
from notifier.api.door import LedgerDoor
from notifier.api.following import Following
from notifier.api.parts import Parts
from notifier.api.serving import Serving, listen, serving, url_of
from notifier.api.totals import Totals
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance
from notifier.delivery.facts import Recorder
from notifier.errors import ConfigurationError
from notifier.processes.living import live
from notifier.processes.log_control import LogControl
from notifier.registry.cache import Registry
from notifier.settings import Settings
from notifier.supervision.child import Parent

#: Seconds that the broker gets to be there before this process is ready all the same: it shows what is wrong.
PROMPT = 2.0
#: Seconds for the last facts, once nothing is accepted any more.
LAST_FACTS = 3.0


class ApiProcess:
    """The parts of the API process and the order in which they start and stop."""

    def __init__(self, parent: Parent, slot: str, settings: Settings) -> None:
        self._parent = parent
        self._settings = settings
        topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
        publisher = Publisher(settings.amqp_urls, topology, "api publish")
        recorder = Recorder(publisher, topology)
        door = LedgerDoor(settings.database)
        self._parts = Parts(
            settings=settings,
            line=parent,
            topology=topology,
            publisher=publisher,
            recorder=recorder,
            entrance=Entrance(topology, publisher, recorder),
            door=door,
            registry=Registry(Path(settings.state_dir)),
            depths=Depths(settings.amqp_urls, topology),
            totals=Totals(door),
        )
        self._logs = LogControl(parent, slot, settings)
        self._following = Following(parent, self._parts)
        self._publishing: asyncio.Task[None] | None = None
        self._answering: asyncio.Task[None] | None = None
        self._listening: socket.socket | None = None
        self._server: Serving | None = None
        self._url = ""

    async def run(self) -> None:
        """Start, answer until told to drain, finish what runs, stop."""
        try:
            await self._start()
            await self._parent.ready()
            await self._work()
            await self._drain()
        finally:
            await self._stop()

    async def _start(self) -> None:
        """Listening comes first: what makes it impossible ends the process with a sentence."""
        self._listening = listen(self._settings.api)
        self._url = url_of(self._listening, self._settings.api)
        self._parent.statistics = self.statistics
        await self._logs.follow()
        await self._following.start()
        await self._parts.door.start()
        await self._connect()
        self._server = serving(create_app(self._parts), self._settings.drain_timeout)
        self._answering = asyncio.create_task(self._server.serve([self._listening]), name="http")
        logs.event("api.listening", url=self._url)

    async def _connect(self) -> None:
        """Begin to connect to the broker; raises what trying again cannot mend, if it is known soon."""
        self._publishing = asyncio.create_task(self._parts.publisher.start(), name="api publish start")
        await asyncio.wait([self._publishing], timeout=PROMPT)
        if self._publishing.done():
            self._publishing.result()

    async def _work(self) -> None:
        """Until told to drain. Raises what the broker refuses later, and whatever ends the server."""
        assert self._answering is not None
        assert self._publishing is not None
        draining = asyncio.create_task(self._parent.draining.wait())
        watched = {draining, self._answering, self._publishing}
        try:
            while not draining.done():
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                watched -= done
                for ended in done:
                    ended.result()
                if self._answering in done:
                    raise RuntimeError("the HTTP server ended by itself")
        finally:
            draining.cancel()

    async def _drain(self) -> None:
        """Accept no connection more, let what runs end: at most as long as the setting says."""
        assert self._server is not None
        assert self._answering is not None
        logs.event("drain", requests=len(self._server.server_state.tasks))
        self._parts.closing.set()
        self._server.drain()
        hurry = asyncio.create_task(self._parent.quick.wait())
        await asyncio.wait(
            [self._answering, hurry], timeout=self._settings.drain_timeout + 1, return_when=asyncio.FIRST_COMPLETED
        )
        hurry.cancel()
        self._server.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self._parent.quick.is_set() else LAST_FACTS):
                await self._parts.entrance.flush()
        logs.event("drained")

    async def _stop(self) -> None:
        self._parts.closing.set()
        tasks = [task for task in (self._answering, self._publishing) if task is not None]
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, ConfigurationError):
                logs.event("failed", logging.ERROR, exc_info=ended)
        if self._listening is not None:
            self._listening.close()
        await self._parts.recorder.close()
        await self._parts.publisher.close()
        await self._parts.depths.close()
        await self._parts.door.close()
        self._parts.registry.close()

    def statistics(self) -> Mapping[str, Any]:
        """For the heartbeat."""
        parts = self._parts
        requests_per_s, accepted_per_s = parts.activity.rates()
        return {
            "url": self._url,
            "requests": parts.activity.requests,
            "accepted": parts.activity.accepted,
            "requests_per_s": requests_per_s,
            "accepted_per_s": accepted_per_s,
            "streams": parts.activity.streams,
            "link": "up" if parts.publisher.connected else "down",
            "database": "up" if parts.door.up else "down",
            "registry": self._following.stand(),
        }


def main(slot: str, epoch: int, fd: int) -> int:
    """The whole life of the API process; returns its exit code. fd: this end of the pipe to the master."""
    setproctitle("notifier: api")
    return uvloop.run(live(fd, slot, epoch, "api", lambda parent, settings: ApiProcess(parent, slot, settings)))
