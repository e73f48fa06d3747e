"""The receiver's log: what arrived at the merchants, as their own process wrote it down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.faults.verdict import Arrival


class Receiver:
    """The merchants' process and its log so far. url: where they listen, without a path."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.arrivals: list[Arrival] = []
        self._process = process
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def until(self, true: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait until something is true of the log; looked at whenever something arrives. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(true)
        except TimeoutError:
            raise TimeoutError(f"waited {timeout:g} s until {what}; {len(self.arrivals)} arrivals so far") from None

    def let_go(self) -> None:
        """The merchants that hang answer now."""
        self._process.send_signal(signal.SIGUSR1)

    def forget(self) -> None:
        """Begin an empty log: what came before was judged."""
        self.arrivals = []

    async def close(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.arrivals.append(Arrival(**json.loads(line)))
            async with self._news:
                self._news.notify_all()


@contextlib.asynccontextmanager
async def receiving(secret: str) -> AsyncIterator[Receiver]:
    """Merchants for the length of the block, who know this secret."""
    script = Path(__file__).with_name("merchants.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), secret, stdout=asyncio.subprocess.PIPE, limit=2**20
    )
    assert process.stdout is not None
    receiver = Receiver(process, int(await process.stdout.readline()))
    try:
        yield receiver
    finally:
        await receiver.close()
