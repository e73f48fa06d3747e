"""The broker under test: a private node, what lies in its queues, and how it is ended and begun again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping

from notifier.broker.node import PrivateNode

#: Seconds for a broker to end by itself.
_END = 30.0


class BrokerUnderTest:
    """A private node. url: where a service connects; with a cluster all addresses, comma-separated."""

    def __init__(self, node: PrivateNode) -> None:
        self.node = node

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.node.url

    async def settled(self) -> None:
        """Have it write down which queues there are: 3.10.8 forgets those declared within a second of a kill -9."""
        await self.node.write_queue_names()

    async def kill(self) -> None:
        """kill -9."""
        await self.node.kill()

    async def end(self) -> None:
        """As an administrator ends it: connections are told, data is flushed."""
        await ended(self.node)

    async def boot(self) -> None:
        """Begin again on the same data; returns when it takes connections."""
        await self.node.restart()

    def stop_clock(self) -> None:
        """SIGSTOP: it answers nothing, and every connection stays open."""
        os.kill(self.node.pid, signal.SIGSTOP)

    def start_clock(self) -> None:
        """SIGCONT."""
        os.kill(self.node.pid, signal.SIGCONT)

    async def ctl(self, *arguments: str) -> str:
        """What rabbitmqctl prints."""
        return await self.node.ctl(*arguments)

    async def depths(self, namespace: str) -> Mapping[str, int]:
        """Messages in each queue of a namespace, those that a consumer holds included."""
        lines = (await self.ctl("-q", "list_queues", "--no-table-headers", "name", "messages")).splitlines()
        rows = [line.split("\t") for line in lines]
        return {name: int(count) for name, count in rows if name.startswith(f"{namespace}.")}


async def ended(node: PrivateNode) -> None:
    """Stop a node and wait until its process is gone."""
    pid = node.pid
    await node.ctl("stop")
    async with asyncio.timeout(_END):
        while _runs(pid):  # noqa: ASYNC110  the guard's child, not ours
            await asyncio.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
