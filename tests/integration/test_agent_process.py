"""What the agent process hears over the control line, and that it looks at once for what may go on then.

The release looks every two seconds by itself, so without a wake everything would still arrive, only later: no test of
what arrives would notice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from notifier.ledger.migrating import migrate
from notifier.processes.agent import AgentProcess
from notifier.settings import Settings
from notifier.supervision.child import Parent

Follower = Callable[[str, Any], Awaitable[None]]


class Line(Parent):
    """The control line of a process that has no master. followers: by the prefix that they asked for."""

    def __init__(self) -> None:
        super().__init__(own_process=False)
        self.boot = {"run": "test"}
        self.followers: dict[str, Follower] = {}
        self.waits = asyncio.Event()

    async def follow(self, follower: Follower, prefix: str = "") -> None:
        self.followers[prefix] = follower

    async def control(self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0) -> Any:
        return {"slots": []}

    async def progress(self, sentence: str) -> None:
        self.waits.set()  # for the broker, which there is none: everything before it is in place

    async def hear(self, key: str, value: Any) -> None:
        """As when the master pushes a key of the desired state; None: it was cleared."""
        for prefix, follower in self.followers.items():
            if key.startswith(prefix):
                await follower(key, value)


class Process(AgentProcess):
    """Notes that the release was told to look."""

    def __init__(self, parent: Parent, settings: Settings) -> None:
        super().__init__(parent, settings)
        self.woken = asyncio.Event()
        self._keeper.wake = self.woken.set  # type: ignore[method-assign]

    def registry_changed(self) -> None:
        self._registrar.changed.set()

    def starting(self) -> Coroutine[Any, Any, None]:
        return self._start()

    async def stop(self) -> None:
        await self._stop()

    def was_woken(self) -> bool:
        """By what was just told. A follower has done its work when it returns."""
        woken = self.woken.is_set()
        self.woken.clear()
        return woken


@contextlib.asynccontextmanager
async def agent(tmp_path: Path) -> AsyncIterator[tuple[Line, Process]]:
    """An agent that waits for its broker, and has everything else."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    await migrate(url)
    settings = Settings(amqp_url="amqp://127.0.0.1:1/", database_url=url, state_dir=str(tmp_path))
    line = Line()
    process = Process(line, settings)
    starting = asyncio.create_task(process.starting())
    try:
        async with asyncio.timeout(20):
            await line.waits.wait()
        process.was_woken()  # the registry was read for the first time
        yield line, process
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await process.stop()


@pytest.mark.parametrize(
    ("key", "value", "wakes"),
    [
        ("block/m", None, True),
        ("block/m", {"blocked": False}, True),
        ("block/m", {"blocked": True}, False),
        ("breaker/m", None, True),
        ("breaker/m", {"state": "open", "until": 4_000_000_000_000, "slot": "tier:1s"}, False),
        ("overflow/1s/m", None, True),
        ("overflow/1s/m", {"slot": "tier:1s"}, True),
    ],
)
async def test_what_lets_held_notifications_go_makes_the_release_look_at_once(
    tmp_path: Path, key: str, value: Any, wakes: bool
) -> None:
    async with agent(tmp_path) as (line, process):
        await line.hear(key, value)
        assert process.was_woken() is wakes


async def test_a_change_of_the_registry_makes_the_release_look_at_once(tmp_path: Path) -> None:
    async with agent(tmp_path) as (_, process):
        process.registry_changed()
        async with asyncio.timeout(5):
            await process.woken.wait()
