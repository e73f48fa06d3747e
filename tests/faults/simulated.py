"""Merchants of `notifier simulate`: their log goes where that of the other merchants goes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping

from tests.acceptance.service import NOTIFIER, SECRET, clean_environment
from tests.faults.receiver import Receiver
from tests.faults.verdict import Arrival


class Simulated:
    """A `notifier simulate`. url: where it listens, without a path. answered: how often each word of a script was."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, receiver: Receiver) -> None:
        self.url = url
        self.answered: Counter[str] = Counter()
        self._process = process
        self._receiver = receiver
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            received = json.loads(line)
            self.answered[received["answer"]] += 1
            await self._receiver.take(_arrival(received))


def _arrival(received: Mapping[str, object]) -> Arrival:
    """It has no body, but what its body must have been can be told by the digest."""
    name = str(received["webhook-id"])
    wanted = hashlib.sha256(json.dumps({"key": name}).encode()).hexdigest()
    return Arrival(
        name,
        int(str(received["attempt"])),
        float(str(received["ts"])),
        name if received["sha256"] == wanted else f"digest {received['sha256']}",
        None if received["signature"] == "valid" else str(received["signature"]),
    )


@contextlib.asynccontextmanager
async def simulated(receiver: Receiver, scripts: Mapping[str, str]) -> AsyncIterator[Simulated]:
    """Scripts by path."""
    process = await asyncio.create_subprocess_exec(
        NOTIFIER, "simulate", "--port", "0", "--json", "--secret", SECRET,
        *(word for path, script in scripts.items() for word in ("--merchant", f"{path}={script}")),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=clean_environment(), limit=2**20,
    )  # fmt: skip
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    merchants = Simulated(process, line.removeprefix("listening on ").strip(), receiver)
    draining = asyncio.create_task(process.stderr.read())
    try:
        yield merchants
    finally:
        await merchants.close()
        await draining
