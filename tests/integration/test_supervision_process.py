"""A master in a process of its own: what signals do to it, and what its own death does to its children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from toys.stage import PATIENCE, alive, watching

MASTER = str(Path(__file__).parent / "toys" / "master.py")


class Service:
    """The process, and what it and its children printed on stderr so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed: list[str] = []

    async def line(self, text: str) -> str:
        """The next line that holds `text`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while raw := await self.process.stderr.readline():
                self.printed.append(raw.decode().rstrip("\n"))
                if text in self.printed[-1]:
                    return self.printed[-1]
        raise AssertionError(f"no line with {text!r} in {self.printed}")

    async def rest(self) -> list[str]:
        """All lines, once the service and its children have ended."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            self.printed += (await self.process.stderr.read()).decode().splitlines()
        return self.printed

    async def code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    @property
    def children(self) -> list[int]:
        return [told["pid"] for told in self.told("child.started")]

    def told(self, name: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in self.printed if line.startswith("{")]
        return [event for event in events if event["event"] == name]


@contextlib.asynccontextmanager
async def service(drain: float, *toys: str) -> AsyncIterator[Service]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, MASTER, str(drain), *toys, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    started = Service(process)
    try:
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        for pid in started.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_with_0_and_ready_stood_alone_on_its_line(number: signal.Signals) -> None:
    async with service(3600, "good", "good") as running:
        await running.line("service.ready")
        running.process.send_signal(number)
        assert await running.code() == 0
        assert (await running.rest()).count("ready") == 1
        assert [told["reason"] for told in running.told("service.stopping")] == [number.name]
        assert not any(alive(pid) for pid in running.children)


async def test_a_second_signal_is_quick() -> None:
    async with service(3600, "hurries") as running:
        await running.line("service.ready")
        running.process.send_signal(signal.SIGINT)
        await running.line("service.stopping")
        running.process.send_signal(signal.SIGINT)
        assert await running.code() == 0
        await running.rest()
        assert [told["reason"] for told in running.told("child.ended")] == ["exit code 0"]


async def test_sighup_reloads() -> None:
    async with service(3600, "good") as running:
        await running.line("service.ready")
        running.process.send_signal(signal.SIGHUP)
        told = json.loads(await running.line("service.reloaded"))
        assert (told["who"], told["live"]) == ("SIGHUP", ["tea"])
        assert running.process.returncode is None


async def test_ctrl_c_in_the_terminal_reaches_the_master_alone() -> None:
    async with service(3600, "good") as running:
        await running.line("service.ready")
        (child,) = running.children
        assert os.getpgid(child) == child != os.getpgid(running.process.pid)
        ignored = int(field_of(child, "SigIgn"), 16)
        assert ignored & (1 << (signal.SIGINT - 1))


async def test_why_the_service_cannot_start_is_printed_once() -> None:
    async with service(3600, "refuses 78 tea", "refuses 78 tea", "good") as running:
        assert await running.code() == 78
        assert [line for line in await running.rest() if not line.startswith("{")] == ["notifier: tea"]


async def test_children_drain_and_exit_when_the_master_is_killed() -> None:
    async with service(3600, "good", "good", "good", "never-ready") as running:
        while len(running.told("child.ready")) < 3:
            await running.line("child.ready")
        async with contextlib.AsyncExitStack() as stack:
            endings = [await stack.enter_async_context(watching(pid)) for pid in running.children]
            running.process.kill()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(ended.wait() for ended in endings))


async def test_a_child_that_does_not_finish_without_its_master_ends_itself() -> None:
    async with service(0.3, "orphan no", "orphan yes") as running:
        await running.line("service.ready")
        obedient, stubborn = running.children
        async with watching(obedient) as first, watching(stubborn) as second:
            running.process.kill()
            async with asyncio.timeout(PATIENCE):
                await first.wait()
                await second.wait()
        forced = [line for line in await running.rest() if "child.forced" in line]
        assert len(forced) == 1


async def test_a_child_stuck_in_its_loop_ends_without_its_master() -> None:
    async with service(3600, "stuck 1.5") as running:
        await running.line("service.ready")
        (child,) = running.children
        async with watching(child) as ended:
            running.process.kill()
            async with asyncio.timeout(PATIENCE):
                await ended.wait()
        assert any(line.startswith("Timeout (0:00:01.5") for line in await running.rest())


def field_of(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
