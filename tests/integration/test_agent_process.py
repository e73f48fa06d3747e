"""What the agent process is wired to: what it hears over the control line, that it looks at once for what may go on
then, and that a setting reaches the part that it is for.

The release looks every two seconds by itself, so without a wake everything would still arrive, only later: no test of
what arrives would notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from notifier.agent import giving_up
from notifier.ledger.database import Database
from notifier.ledger.migrating import migrate
from notifier.processes.agent import AgentProcess
from notifier.settings import Settings
from notifier.supervision.child import Parent
from tests.integration.test_giving_up import fail, standing
from tests.integration.test_registrar import URL, Machine

Follower = Callable[[str, Any], Awaitable[None]]


class Line(Parent):
    """The control line of a process that has no master. followers: by the prefix that they asked for. pushed: it told
    something to all processes of its machine.
    """

    def __init__(self) -> None:
        super().__init__(own_process=False)
        self.boot = {"run": "test"}
        self.followers: dict[str, Follower] = {}
        self.waits = asyncio.Event()
        self.pushed = asyncio.Event()

    async def follow(self, follower: Follower, prefix: str = "") -> None:
        self.followers[prefix] = follower

    async def control(self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0) -> Any:
        if verb == "push":
            self.pushed.set()
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

    def start_keeper(self) -> None:
        """What one agent of the fleet does for all, which otherwise waits for the broker."""
        self._keeper.start()

    def starting(self) -> Coroutine[Any, Any, None]:
        return self._start()

    async def stop(self) -> None:
        await self._stop()

    def was_woken(self) -> bool:
        """By what was just told. A follower has done its work when it returns."""
        woken = self.woken.is_set()
        self.woken.clear()
        return woken


def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@contextlib.asynccontextmanager
async def agent(tmp_path: Path, **stated: Any) -> AsyncIterator[tuple[Line, Process]]:
    """An agent that waits for its broker, and has everything else. stated: further settings."""
    url = address(tmp_path)
    await migrate(url)
    settings = Settings(amqp_url="amqp://127.0.0.1:1/", database_url=url, state_dir=str(tmp_path), **stated)
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
        pytest.param("breaker/m", {"state": "open", "until": 0, "probes": 1}, True, id="the turn of what is held"),
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


@pytest.mark.parametrize("days", [3, 7])
async def test_a_merchant_is_given_up_after_as_many_days_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """One that failed for a little less stays; it is judged in the same round, and before the other one. The default
    is five days: with it the first of the two rounds disables nobody, and the second one both.
    """
    monkeypatch.setattr(giving_up, "CALM", 0.0)
    await migrate(address(tmp_path))
    database = await Database.open(address(tmp_path))
    try:
        before = Machine(database, tmp_path / "before")
        before.now = time.time() - 15 * 86_400
        await before.registrar.start()
        for merchant, failed in (("a-lately", days - 0.5), ("b-long", days + 1)):
            await before.change("add", merchant, url=URL)
            await fail(database, merchant, failed, int(time.time() * 1000))
        await before.registrar.close()
        before.registry.close()

        async with agent(tmp_path, breaker={"disable_after": days}) as (line, process):
            line.pushed.clear()
            process.start_keeper()
            async with asyncio.timeout(20):
                await line.pushed.wait()
            now, why = await standing(database, "b-long")
            assert now == "disabled"
            assert why is not None
            assert why.startswith(
                f"nothing acknowledged for more than {days} days: all {(days + 1) * 4} attempts since"
            )
            assert await standing(database, "a-lately") == ("enabled", None)
    finally:
        await database.close()
