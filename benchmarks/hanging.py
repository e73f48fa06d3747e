"""The receiver of the merchants that hang, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks import children, hanging_server
from benchmarks.children import Child
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import Arrival

_START_PATIENCE = 10.0


class Hanging:
    """A running one. url: where to post, and wait for ever."""

    def __init__(self, process: Child, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.pid = process.pid
        self._log = log

    def requests(self) -> list[Arrival]:
        """All that came so far."""
        *lines, _ = self._log.read_text().split("\n")
        return [Arrival.parse(line) for line in lines]


@contextlib.asynccontextmanager
async def open_hanging(directory: Path) -> AsyncIterator[Hanging]:
    """Merchants that hang until the end of the block. directory: of its log. Raises BenchmarkFailed."""
    log = directory / "hanging.log"
    log.touch()
    command = [sys.executable, hanging_server.__file__, str(log)]
    process = await children.start("hanging merchants", command, directory, children.environment({}), read=True)
    try:
        assert process.process.stdout is not None
        async with asyncio.timeout(_START_PATIENCE):
            port = (await process.process.stdout.readline()).strip()
        if not port.isdigit():
            raise BenchmarkFailed(f"the server of hanging merchants does not start:\n{process.last_lines()}")
        yield Hanging(process, int(port), log)
        if process.process.returncode not in (None, -signal.SIGTERM):
            raise BenchmarkFailed(f"the server of hanging merchants ended meanwhile:\n{process.last_lines()}")
    finally:
        await process.stop()
