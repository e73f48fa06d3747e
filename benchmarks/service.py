"""A service that runs as anyone starts it, reached over its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import children, proc
from benchmarks.children import Child
from benchmarks.errors import BenchmarkFailed
from benchmarks.sides import Notifier
from notifier.errors import NoMaster
from notifier.supervision.operator import Operator

_START_PATIENCE = 30.0
#: Longer than a start may take before the master itself kills and starts again.
_READY_PATIENCE = 60.0


class Service:
    """A running `notifier run`. operator: connected to it."""

    def __init__(self, master: Child, operator: Operator, runtime: Path) -> None:
        self.operator = operator
        self._master = master
        self._runtime = runtime

    @property
    def pid(self) -> int:
        """The master's."""
        return self._master.pid

    def require_alive(self) -> None:
        """Raise BenchmarkFailed with its last lines if it has ended."""
        self._master.require_alive()

    @property
    def log(self) -> Path:
        """The file with all that its processes say."""
        return self._master.log

    def last_lines(self) -> str:
        """What it said last."""
        return self._master.last_lines()

    async def slots(self) -> list[Mapping[str, Any]]:
        """All of them, as the master sees them now."""
        slots: list[Mapping[str, Any]] = (await self.operator.ask("status"))["slots"]
        return slots

    async def pids(self) -> list[int]:
        """The master and its children, at rest."""
        pids = [self.pid, *(slot["pid"] for slot in await self.slots())]
        await proc.cpu_seconds_at_rest(pids)
        return pids

    async def kill_each(self) -> list[float]:
        """kill -9 of the process of each slot, one after the other; seconds from each kill to `ready` in its slot."""
        watcher = await Operator.connect(self._runtime)
        try:
            await watcher.ask("events")  # from here on none is missed
            events = watcher.events()
            return [await self._ready_again(slot, events) for slot in await self.slots()]
        finally:
            await watcher.close()

    async def _ready_again(self, slot: Mapping[str, Any], events: AsyncIterator[Mapping[str, Any]]) -> float:
        began = time.monotonic()
        os.kill(slot["pid"], signal.SIGKILL)
        try:
            async with asyncio.timeout(_READY_PATIENCE):
                while (event := await anext(events, None)) is not None:
                    if _is_ready(event, slot):
                        return time.monotonic() - began
        except TimeoutError:
            raise BenchmarkFailed(f"{slot['slot']} was not ready {_READY_PATIENCE:.0f} s after kill -9") from None
        raise BenchmarkFailed(f"the master ended after kill -9 of {slot['slot']}:\n{self.last_lines()}")


@contextlib.asynccontextmanager
async def open_service(side: Notifier, directory: Path) -> AsyncIterator[Service]:
    """A service with all slots ready until the end of the block, then ended in order."""
    master = await children.start("notifier run", side.work(), directory, children.environment(side.environment))
    try:
        operator = await _connected(master, Path(side.runtime))
        try:
            service = Service(master, operator, Path(side.runtime))
            await _all_ready(service)
            yield service
        finally:
            await operator.close()
        await master.stop()
        await master.finished()
    finally:
        await master.stop()


async def _connected(master: Child, runtime: Path) -> Operator:
    """It tells nobody when it listens, so it is asked every 10 ms."""
    deadline = time.monotonic() + _START_PATIENCE
    while True:
        master.require_alive()
        try:
            return await Operator.connect(runtime)
        except NoMaster:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)


async def _all_ready(service: Service) -> None:
    deadline = time.monotonic() + _START_PATIENCE
    while any(slot["state"] != "ready" for slot in await service.slots()):
        service.require_alive()
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"not every slot became ready:\n{service.last_lines()}")
        await asyncio.sleep(0.05)


def _is_ready(event: Mapping[str, Any], slot: Mapping[str, Any]) -> bool:
    """Whether this is what is waited for. Raises BenchmarkFailed for what spoils the measurement."""
    concerned, name = event.get("slot"), event["event"]
    if name == "child.ended" and concerned != slot["slot"]:
        raise BenchmarkFailed(f"{concerned} ended by itself: {event.get('reason')}")
    if name == "child.backoff":
        raise BenchmarkFailed(f"{concerned} was to wait {event.get('seconds')} s before it started again")
    if name != "child.ready" or concerned != slot["slot"]:
        return False
    if event.get("epoch") != slot["epoch"] + 1:
        raise BenchmarkFailed(f"{concerned} is ready in epoch {event.get('epoch')}, killed was {slot['epoch']}")
    return True
