"""One run of one side, from the first publish to the figures."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import children, load, pace, proc
from benchmarks.broker import Broker
from benchmarks.children import Child
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import Arrival, count, lateness_ms, middle_rate, percentile, rate_of
from benchmarks.load import Item
from benchmarks.machine import Others
from benchmarks.receiver import Receiver
from benchmarks.sides import DELAY, TIER, Side

_DUE_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of what. count: notifications of the backlog. rate, seconds: of the steady part."""

    count: int
    rate: float
    seconds: float

    @property
    def steady_count(self) -> int:
        """Notifications of the steady part."""
        return round(self.rate * self.seconds)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run measured; docs/benchmarks.md says what each means. None where it cannot be had.

    *_per_s: notifications a second. *_cpu_ms: milliseconds of CPU time per notification. *_mb: 10^6 bytes.
    others_share: of all cores, used meanwhile by processes that have no part in the run.
    """

    enqueue_per_s: float
    enqueue_whole_per_s: float
    delivered_per_s: float
    backlog_cpu_ms: float
    steady_cpu_ms: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    worker_pss_mb: float
    master_pss_mb: float | None
    broker_cpu_ms: float | None
    others_share: float


class Run:
    """A run. name: unique, the prefix of its ids. directory: new; files and logs of the run."""

    def __init__(self, name: str, side: Side, plan: Plan, broker: Broker, receiver: Receiver, directory: Path) -> None:
        self._side = side
        self._plan = plan
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._environment = children.environment(side.environment)
        self._backlog = load.items(f"{name}-b", plan.count, receiver.url)
        self._steady = load.items(f"{name}-s", plan.steady_count, receiver.url)
        self._before = len(receiver.arrivals)
        self._worker: Child | None = None

    async def measure(self) -> Figures:
        """Everything, in order. Raises BenchmarkFailed when not every notification arrived exactly once."""
        self._directory.mkdir()
        others = Others(participants(self._broker, self._receiver))
        try:
            broker_before = self._broker_cpu()
            enqueue_per_s, enqueue_whole_per_s = await self._enqueue_backlog()
            await self._all_due()
            worker = await self._start_worker()
            delivered_per_s, backlog_cpu_ms = await self._deliver_backlog(worker)
            broker_after = self._broker_cpu()
            late, steady_cpu_ms = await self._deliver_steadily(worker)
            worker_pss_mb, master_pss_mb = self._weigh(worker)
            await self._stop_worker()
        finally:
            await self._clean_up()
        return Figures(
            enqueue_per_s=enqueue_per_s,
            enqueue_whole_per_s=enqueue_whole_per_s,
            delivered_per_s=delivered_per_s,
            backlog_cpu_ms=backlog_cpu_ms,
            steady_cpu_ms=steady_cpu_ms,
            late_p50_ms=percentile(late, 0.5),
            late_p99_ms=percentile(late, 0.99),
            late_max_ms=max(late),
            worker_pss_mb=worker_pss_mb,
            master_pss_mb=master_pss_mb,
            broker_cpu_ms=self._per_notification(broker_before, broker_after),
            others_share=others.share,
        )

    async def _enqueue_backlog(self) -> tuple[float, float]:
        """Hand in the backlog; notifications a second in the middle of it, and by the whole life of the process."""
        file = self._directory / "backlog.jsonl"
        load.write_lines(self._backlog, file)
        seen: list[tuple[float, int]] = []
        printed = 0
        began = time.monotonic()
        producer = await children.start(
            f"{self._side.name} enqueue", self._side.enqueue(file), self._directory, self._environment, read=True
        )
        try:
            assert producer.process.stdout is not None
            while chunk := await producer.process.stdout.read(65_536):
                printed += chunk.count(b"\n")
                seen.append((time.monotonic(), printed))
            await producer.finished()
            whole = time.monotonic() - began
        finally:
            await producer.stop()
        if printed != len(self._backlog):
            raise BenchmarkFailed(f"{producer.name} confirmed {printed:,} of {len(self._backlog):,}")
        return middle_rate(seen, printed), printed / whole

    async def _all_due(self) -> None:
        """Wait until the whole backlog lies in the work queue. The broker tells when asked, so it is asked."""
        queue, deadline = f"{self._side.namespace}.work.{TIER}", time.monotonic() + DELAY + _DUE_PATIENCE
        while (ready := await self._broker.ready(queue)) != len(self._backlog):
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{queue} holds {ready:,} messages, not the {len(self._backlog):,} enqueued ones")
            await asyncio.sleep(0.1)

    async def _start_worker(self) -> list[int]:
        """Start what delivers; returns its processes, the one that was started first, once the first one arrived."""
        name = f"{self._side.name} worker"
        self._worker = await children.start(name, self._side.work(), self._directory, self._environment)
        await self._receiver.until(self._before + 1, self._worker.require_alive)
        return [self._worker.pid, *proc.children(self._worker.pid)]

    async def _deliver_backlog(self, worker: list[int]) -> tuple[float, float]:
        """Arrivals a second from the first to the last, and CPU time by all but those of the start."""
        assert self._worker is not None
        already, spent = self._receiver.look() - self._before, proc.cpu_seconds(worker)
        await self._receiver.until(self._before + len(self._backlog), self._worker.require_alive)
        spent = await proc.cpu_seconds_at_rest(worker) - spent
        self._check(self._backlog, {})
        return rate_of(self._arrived()), spent * 1000 / (len(self._backlog) - already)

    async def _deliver_steadily(self, worker: list[int]) -> tuple[list[float], float]:
        """Lateness of each, and CPU time by each."""
        assert self._worker is not None
        spent = proc.cpu_seconds(worker)
        due = await pace.publish_steadily(self._broker.url, self._side, self._steady, self._plan.rate)
        total = len(self._backlog) + len(self._steady)
        await self._receiver.until(self._before + total, self._worker.require_alive)
        spent = await proc.cpu_seconds_at_rest(worker) - spent
        self._check([*self._backlog, *self._steady], due)
        return lateness_ms(due, self._arrived()), spent * 1000 / len(self._steady)

    def _weigh(self, worker: list[int]) -> tuple[float, float | None]:
        """Memory at rest: of what works, and of the master if there is one."""
        assert self._worker is not None
        if worker != [self._worker.pid, *proc.children(self._worker.pid)]:
            raise BenchmarkFailed(f"a process was replaced during the run:\n{self._worker.last_lines()}")
        first, *others = [proc.pss_megabytes(pid) for pid in worker]
        return (sum(others), first) if self._side.has_master else (first, None)

    async def _stop_worker(self) -> None:
        """End it in order; nothing may arrive any more by then."""
        assert self._worker is not None
        await self._worker.stop()
        await self._worker.finished()
        self._receiver.look()
        self._check([*self._backlog, *self._steady], {})

    async def _clean_up(self) -> None:
        if self._worker is not None:
            await self._worker.stop()
        await self._broker.forget(self._side.namespace)

    def _check(self, sent: list[Item], due: dict[str, float]) -> None:
        wrong = count([item.id for item in sent], due, self._arrived()).wrong
        if wrong is not None:
            assert self._worker is not None
            raise BenchmarkFailed(f"{self._side.name}: {wrong}.\n{self._worker.last_lines()}")

    def _arrived(self) -> list[Arrival]:
        return self._receiver.arrivals[self._before :]

    def _per_notification(self, before: float | None, after: float | None) -> float | None:
        return None if before is None or after is None else (after - before) * 1000 / self._plan.count

    def _broker_cpu(self) -> float | None:
        return None if self._broker.pid is None else proc.cpu_seconds([self._broker.pid])


def participants(broker: Broker, receiver: Receiver) -> list[int]:
    """Processes that have a part in every run."""
    receiving = [receiver.pid, *proc.children(receiver.pid)]
    return receiving if broker.pid is None else [*receiving, broker.pid]
