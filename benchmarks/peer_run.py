"""One run of a task queue with the same load, measured the same way. Explained in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aio_pika
from aiormq.exceptions import ChannelNotFoundEntity

from benchmarks import children, load, proc
from benchmarks.broker import Broker
from benchmarks.children import Child
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import Arrival
from benchmarks.hanging import open_hanging
from benchmarks.isolation_figures import Healthy
from benchmarks.isolation_load import Mixed, mixed
from benchmarks.machine import Others
from benchmarks.peer_figures import healthy
from benchmarks.peer_sides import SCRIPTS, Peer
from benchmarks.receiver import Receiver
from benchmarks.run import Plan, participants

#: Seconds after the last due moment for which the healthy ones are waited for.
PATIENCE = 30.0
_START_PATIENCE = 60.0
_LOOK = 0.1


class PeerRun:
    """One run. name: of its queue. hang: whether every tenth merchant does. directory: to be made."""

    def __init__(
        self, name: str, peer: Peer, plan: Plan, hang: bool, broker: Broker, receiver: Receiver, directory: Path
    ) -> None:
        self._queue = f"bench-{name}"
        self._name = name
        self._peer = peer
        self._plan = plan
        self._hang = hang
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._attempts = directory / "attempts"
        self._before = receiver.look()

    async def measure(self) -> Healthy:
        """Everything, in order. Raises BenchmarkFailed if the peer does not start or cannot publish.

        What has not arrived in time is counted, not refused: nothing is promised of a peer here.
        """
        self._attempts.mkdir(parents=True)
        try:
            async with open_hanging(self._directory) as hanging:
                others = Others([*participants(self._broker, self._receiver), hanging.pid])
                others_url = hanging.url if self._hang else self._receiver.url
                sent = mixed(self._name, self._plan.steady_count, self._receiver.url, others_url)
                async with self._worker() as worker:
                    spent = proc.cpu_seconds(proc.tree(worker.pid))
                    due = await self._publish(sent)
                    await self._wait(sent, max(due.values()) + PATIENCE, worker)
                    ended, working = time.time(), proc.tree(worker.pid)
                    spent, share = proc.cpu_seconds(working) - spent, others.share_beside(working)
                ids, arrived = [item.id for item in sent.healthy], self._receiver.arrivals[self._before :]
                return healthy(ids, due, self._started(), arrived, ended, spent, share)
        finally:
            await self._forget()

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[Child]:
        """It runs until the end of the block, and what it still has in hand then is given up with it."""
        worker = await children.start("worker", self._peer.command, self._directory, self._environment())
        try:
            await self._consumed(worker)
            yield worker
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)  # a session of its own: all of its processes
            await worker.process.wait()

    async def _consumed(self, worker: Child) -> None:
        """Wait until all its processes consume. It tells nobody, so the broker is asked."""
        deadline = time.monotonic() + _START_PATIENCE
        async with await aio_pika.connect(self._broker.url) as connection:
            while await _consumers(connection, self._queue) < self._peer.consumers:
                worker.require_alive()
                if time.monotonic() > deadline:
                    raise BenchmarkFailed(f"{self._name} does not consume:\n{worker.last_lines()}")
                await asyncio.sleep(_LOOK)

    async def _publish(self, sent: Mixed) -> dict[str, float]:
        """The due moment of each."""
        items, due = self._directory / "items.jsonl", self._directory / "due"
        load.write_lines(sent.all, items)
        command = self._peer.producer(items, self._plan.rate, due)
        producer = await children.start("producer", command, self._directory, self._environment())
        try:
            await producer.finished()
        finally:
            await producer.stop()
        moments = (line.split(" ") for line in due.read_text().splitlines())
        return {each: float(moment) for each, moment in moments}

    async def _wait(self, sent: Mixed, until: float, worker: Child) -> None:
        """Until all healthy ones have arrived, or the time is over. until: Unix seconds."""
        missing = {item.id for item in sent.healthy}
        seen = self._before
        while time.time() < until:
            worker.require_alive()
            self._receiver.look()
            missing -= {arrival.id for arrival in self._receiver.arrivals[seen:]}
            seen = len(self._receiver.arrivals)
            if not missing:
                return
            await asyncio.sleep(_LOOK)

    def _started(self) -> list[Arrival]:
        """What its tasks wrote down, of every process."""
        lines = (line for log in self._attempts.glob("*.log") for line in log.read_text().splitlines())
        return [Arrival.parse(line) for line in lines]

    def _environment(self) -> Mapping[str, str]:
        own = {
            "PEER_BROKER": self._broker.url,
            "PEER_QUEUE": self._queue,
            "PEER_ATTEMPTS": str(self._attempts),
            "PYTHONPATH": str(SCRIPTS),
            **dict(self._peer.settings),
        }
        return children.environment(own)

    async def _forget(self) -> None:
        """Delete what bears its name. Celery's own delay queues, which bear none, are the broker's until it ends."""
        async with await aio_pika.connect(self._broker.url) as connection:
            channel = await connection.channel()
            for suffix in self._peer.queues:
                await channel.queue_delete(f"{self._queue}{suffix}")
            await channel.exchange_delete(self._queue)


async def _consumers(connection: aio_pika.abc.AbstractConnection, queue: str) -> int:
    """How many consume it; 0 while there is no such queue, which costs the channel."""
    channel = await connection.channel()
    try:
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.consumer_count or 0
    except ChannelNotFoundEntity:
        return 0
    finally:
        await channel.close()
