"""`notifier run` as a process of the tests: started, awaited, killed, ended; and what its log lines say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from notifier.ledger.migrating import migrate
from tests.acceptance.forking import Forks

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOTIFIER = str(Path(sys.executable).with_name("notifier"))

#: Runtime directories of the tests' services; a Unix socket's path is short, so not below pytest's own directories.
_RUNTIME = tempfile.TemporaryDirectory(prefix="notifier-tests-")


def runtime_dir() -> str:
    """A runtime directory for one service."""
    return tempfile.mkdtemp(dir=_RUNTIME.name)


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of the developer."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")} | more


def environment(url: str, namespace: str, **settings: str) -> dict[str, str]:
    """The environment of a command: this one's without settings of the developer, then those of the test."""
    return clean_environment() | {
        "NOTIFIER_AMQP_URL": url,
        "NOTIFIER_NAMESPACE": namespace,
        "NOTIFIER_SIGNING_SECRET": SECRET,
        "NOTIFIER_EGRESS__ALLOW": "127.0.0.0/8",
        "NOTIFIER_LOG__FORMAT": "json",
        "NOTIFIER_RUNTIME_DIR": (directory := runtime_dir()),
        "NOTIFIER_STATE_DIR": directory,
        "NOTIFIER_API__PORT": "0",
        **settings,
    }


class RunningService:
    """A `notifier run`. events: its JSON log lines so far; lines: everything else that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def ready(self, timeout: float = 90) -> None:
        """Wait until it says that every child is ready."""
        await self._until(lambda: "ready" in self.lines, timeout, "ready")

    async def said(self, start: str, timeout: float = 10) -> str:
        """The first line that starts so, awaited."""

        def found() -> str | None:
            return next((line for line in self.lines if line.startswith(start)), None)

        await self._until(found, timeout, f"a line {start}…")
        line = found()
        assert line is not None
        return line

    async def event(self, name: str, timeout: float = 60, **fields: object) -> dict[str, Any]:
        """The first event with this name and these fields, awaited."""

        def found() -> dict[str, Any] | None:
            return next(
                (
                    event
                    for event in self.events
                    if event["event"] == name and all(event.get(field) == value for field, value in fields.items())
                ),
                None,
            )

        await self._until(found, timeout, f"event {name} {fields}")
        event = found()
        assert event is not None
        return event

    async def several(self, count: int, name: str, timeout: float = 60, **fields: object) -> list[dict[str, Any]]:
        """So many events with this name and these fields, awaited; all that there are then."""

        def found() -> list[dict[str, Any]]:
            return [
                event
                for event in self.events
                if event["event"] == name and all(event.get(field) == value for field, value in fields.items())
            ]

        await self._until(lambda: len(found()) >= count, timeout, f"{count} events {name} {fields}")
        return found()

    async def settled(self, notifications: set[str], timeout: float = 30) -> None:
        """Wait until each of these notifications had an attempt that was judged."""
        await self._until(
            lambda: (
                notifications <= {event.get("notification") for event in self.events if event["event"] == "attempt"}
            ),
            timeout,
            f"attempts of {len(notifications)} notifications",
        )

    def pid(self, tier: str) -> int:
        """The process that serves a tier now."""
        return self.pid_of(f"tier:{tier}")

    def pid_of(self, slot: str) -> int:
        """The process that is in a slot now."""
        started = ("child.started", "child.restarted")
        return int([e for e in self.events if e["event"] in started and e["slot"] == slot][-1]["pid"])

    @property
    def dashboard(self) -> str:
        """The address that it printed after `ready`."""
        return next(line.removeprefix("dashboard: ") for line in self.lines if line.startswith("dashboard: "))

    async def stop(self, timeout: float = 40) -> int:
        """SIGTERM; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
            await self._reading
        return code

    async def _until(self, true: Callable[[], object], timeout: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: true() or self._reading.done())
        except TimeoutError:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last lines: {self._last()}") from None
        assert true(), f"the service ended before {what}: {self._last()}"

    def _last(self) -> str:
        return "\n".join([*self.lines[-5:], *(json.dumps(event) for event in self.events[-15:])])

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            text = line.decode().rstrip("\n")
            try:
                event = json.loads(text)
            except ValueError:
                event = None
            if isinstance(event, dict):
                self.events.append(event)
            else:
                self.lines.append(text)
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


#: For services without an agent under load: what is held stays held there, so nothing is held for a merchant's sake.
ROOMY = {
    "NOTIFIER_ISOLATION__CONCURRENCY": "2000",
    "NOTIFIER_ISOLATION__SHARE": "1",
    "NOTIFIER_BREAKER__ENABLED": "false",
}

#: For tests that are about tier processes and the master alone: each further process costs a start.
TIERS_ALONE = ("--no-agent", "--no-api")


@contextlib.asynccontextmanager
async def running(
    variables: Mapping[str, str], *arguments: str, cwd: Path | None = None, whole: bool = False
) -> AsyncIterator[RunningService]:
    """A service that is ready; drained, or killed if that takes too long, at the end of the block.

    whole: with agent and API, unless the arguments say otherwise.
    """
    if whole:
        await _give_tables(variables)
    chosen = arguments if whole else (*TIERS_ALONE, *arguments)
    process = await asyncio.create_subprocess_exec(
        NOTIFIER, "run", *chosen, env=dict(variables), cwd=cwd, stderr=asyncio.subprocess.PIPE, limit=2**22
    )
    service = RunningService(process)
    try:
        await service.ready()
        if whole and "--no-api" not in arguments:
            await service.said("dashboard: ")
        yield service
    finally:
        try:
            await service.stop()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _give_tables(variables: Mapping[str, str]) -> None:
    """Tables for a ledger in a new file: a service that has to make them itself starts half a second of CPU later. That
    it can is shown by the README's service and by `notifier dev`.
    """
    ledger = Path(variables["NOTIFIER_STATE_DIR"]) / "ledger.db"
    if "NOTIFIER_DATABASE_URL" in variables or ledger.exists():
        return
    template = Path(_RUNTIME.name) / "template.db"
    if not template.exists():
        await migrate(f"sqlite:///{template}")
    shutil.copy(template, ledger)


_forks: list[Forks] = []


async def notifier(
    variables: Mapping[str, str], *arguments: str, stdin: bytes = b"", cwd: Path | None = None
) -> tuple[int, str, str]:
    """Run one command to its end: exit code, stdout, stderr."""
    if not _forks:
        _forks.append(Forks())
    async with asyncio.timeout(60):
        return await _forks[0].call(variables, arguments, stdin, cwd)
