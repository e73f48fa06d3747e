"""The service under test: a real `notifier run`, its processes by slot, and its end and new beginning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from notifier.delivery import failpoints
from notifier.errors import ChildFailed, NotifierError
from notifier.supervision.operator import Operator
from tests.acceptance.service import NOTIFIER, RunningService
from tests.faults.errors import DidNotBite

#: The ladder of all that is sent: two tier processes, and a third step for attempts that a fault spoils.
LADDER = "1s,2s,2s"
TIERS = ("tier:1s", "tier:2s")
#: Seconds. A slot that died several times in a row waits up to half a minute.
_PATIENCE = 75.0


def runs(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


class ServiceUnderTest:
    """A service that is started, struck, and started again in the same place.

    variables: its environment. points: the directory in which fail points are armed. warnings: its log lines so far.
    """

    def __init__(self, variables: Mapping[str, str], *arguments: str) -> None:
        self.points = Path(variables["NOTIFIER_RUNTIME_DIR"]) / "points"
        self.points.mkdir(exist_ok=True)
        self.variables = {**variables, failpoints.VARIABLE: str(self.points), "NOTIFIER_LOG__LEVEL": "warning"}
        self.warnings: list[dict[str, Any]] = []
        self._arguments = arguments
        self._running: RunningService | None = None
        self._operator: Operator | None = None

    async def start(self) -> None:
        """Start, and return when every child is ready."""
        process = await asyncio.create_subprocess_exec(
            NOTIFIER, "run", *self._arguments, env=self.variables, stderr=asyncio.subprocess.PIPE, limit=2**22
        )
        self._running = RunningService(process)
        self._running.events = self.warnings  # one list over all its lives
        await self._running.ready(60)
        self._operator = await Operator.connect(Path(self.variables["NOTIFIER_RUNTIME_DIR"]))

    async def stop(self) -> int:
        """SIGTERM; the exit code. Twice is fine."""
        running, self._running = self._running, None
        if running is None:
            return 0
        await self._hang_up()
        try:
            return await running.stop()
        except TimeoutError:
            running.process.kill()
            await running.process.wait()
            raise

    async def killed(self) -> None:
        """Kill the master with -9, and return when it and all of its children are gone."""
        assert self._running is not None
        children = [slot["pid"] for slot in (await self.slots()).values()]
        running, self._running = self._running, None
        await self._hang_up()
        running.process.kill()
        await running.process.wait()
        async with asyncio.timeout(_PATIENCE):
            while any(runs(pid) for pid in children):  # noqa: ASYNC110  nobody's child any more
                await asyncio.sleep(0.05)

    @property
    def dashboard(self) -> str:
        """The address of the API, which it has again after a death."""
        assert self._running is not None
        return self._running.dashboard

    @property
    def master(self) -> int:
        """The process id of the master."""
        assert self._running is not None
        return self._running.process.pid

    async def slots(self) -> dict[str, dict[str, Any]]:
        """Every slot by its name, as the master sees it now."""
        assert self._operator is not None
        return {slot["slot"]: slot for slot in (await self._operator.ask("status"))["slots"]}

    @property
    def operator(self) -> Operator:
        """Who speaks with the master."""
        assert self._operator is not None
        return self._operator

    async def pid(self, slot: str) -> int:
        """The process in a slot, once it is ready."""
        return int((await self.until(slot, state="ready"))["pid"])

    async def until(self, slot: str, timeout: float = _PATIENCE, **wanted: Any) -> dict[str, Any]:
        """Wait until a slot looks so. Asked again and again: what comes by heartbeat is no event of the master."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(timeout):
                while not seen or any(seen[name] != value for name, value in wanted.items()):
                    seen = await self._seen(slot) or seen
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TimeoutError(f"{slot} was not {wanted} in {timeout:g} s: {seen}") from None
        return seen

    async def _seen(self, slot: str) -> dict[str, Any]:
        """A slot as it is now; nothing when the answer takes too long on a busy machine."""
        with contextlib.suppress(ChildFailed):
            return (await self.slots())[slot]
        return {}

    async def ready(self) -> None:
        """Wait until every slot is ready."""
        for name in await self.slots():
            await self.until(name, state="ready")

    async def kill(self, slot: str) -> tuple[float, float]:
        """kill -9 the process in a slot: when, and when the one after it was ready (Unix milliseconds)."""
        standing = await self.until(slot, state="ready")
        began = time.time() * 1000
        os.kill(standing["pid"], signal.SIGKILL)
        return began, await self.died(standing)

    async def died(self, standing: Mapping[str, Any]) -> float:
        """Wait until the process after this one, which was killed with -9, is ready; when that was.

        Who dies again and again is started later and later: that wait is ended as an operator ends it, by a restart.
        """
        slot, epoch = standing["slot"], standing["epoch"] + 1
        waited = 0
        async with asyncio.timeout(_PATIENCE):
            while (seen := await self._seen(slot)).get("epoch", 0) < epoch:
                waited = waited + 1 if seen.get("state") in ("backoff", "degraded") else 0
                if waited == 2:  # after its first death it would be started at once
                    await self.operator.ask("restart", {"to": slot}, timeout=_PATIENCE)
                await asyncio.sleep(0.05)
        after = await self.until(slot, state="ready")
        if after["epoch"] == epoch and "SIGKILL" not in str(after["reason"]):
            raise DidNotBite(f"{standing['slot']} did not die by kill -9: {after['reason']}")
        return time.time() * 1000

    def told(self, event: str, saying: str = "") -> int:
        """How often it logged this event, warnings and worse; saying: with this in its reason."""
        return sum(line["event"] == event and saying in str(line.get("reason")) for line in self.warnings)

    def moments(self, *events: str, since: float, slot: str | None = None) -> list[float]:
        """When it logged one of these events since then, warnings and worse (Unix milliseconds). slot: of this one."""
        told = [line for line in self.warnings if line["event"] in events and slot in (None, line.get("slot"))]
        moments = [datetime.fromisoformat(line["ts"]).timestamp() * 1000 for line in told]
        return [moment for moment in moments if moment >= since]

    async def until_told(self, event: str, more_than: int, timeout: float = 30, saying: str = "") -> None:
        """Wait until it logged this event more often than that. Raises DidNotBite."""
        assert self._running is not None
        wanted = f"{event} {saying} {more_than + 1} times"
        try:
            await self._running._until(lambda: self.told(event, saying) > more_than, timeout, wanted)
        except AssertionError as error:
            raise DidNotBite(str(error)) from None

    async def _hang_up(self) -> None:
        operator, self._operator = self._operator, None
        if operator is not None:
            with contextlib.suppress(NotifierError):
                await operator.close()
