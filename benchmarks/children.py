"""Processes that the benchmark starts: each ends with it, however it ends, and is ended by its own pid."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkFailed

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
#: `notifier run` drains for up to 25 s.
_PATIENCE = 40.0


class Child:
    """A running process. log: file that holds what it printed on stderr (and on stdout, unless that is read)."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def require_alive(self) -> None:
        """Raise BenchmarkFailed with its last lines if it has ended."""
        if self.process.returncode is not None:
            raise BenchmarkFailed(f"{self.name} ended with {self.process.returncode}:\n{self.last_lines()}")

    async def finished(self) -> None:
        """Wait for its end; raises BenchmarkFailed when that was not exit code 0."""
        if await self.process.wait():
            raise BenchmarkFailed(f"{self.name} ended with {self.process.returncode}:\n{self.last_lines()}")

    async def stop(self) -> None:
        """SIGTERM, and -9 to one that does not listen. Twice is fine."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.process.wait()
        except BaseException:  # cancelled as well: nothing of ours may stay behind
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            raise

    def last_lines(self, most: int = 15) -> str:
        """What it said last."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-most:])


async def start(
    name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str], *, read: bool = False
) -> Child:
    """Start a process with `directory` as its working directory. read: its stdout is a pipe, to be read by us."""
    log = directory / f"{name.replace(' ', '-')}.log"
    with log.open("ab") as printed:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,
            env=dict(environment),
            stdin=DEVNULL,
            stdout=PIPE if read else printed,
            stderr=printed,
            start_new_session=True,  # a Ctrl-C of the terminal is ours to carry out, in order
            preexec_fn=_end_with_parent,
        )
    return Child(name, process, log)


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """This environment without any setting of notifier's, and `own`: a benchmark runs with the defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")} | dict(own)


def _end_with_parent() -> None:
    """Runs in the child before exec. The kernel sends SIGTERM when the thread that started it ends: our main thread."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
