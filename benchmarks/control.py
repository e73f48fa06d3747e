"""The control line of a real service: pushes under load, kill -9, memory. Explained in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import load, pace, proc
from benchmarks.broker import Broker
from benchmarks.control_figures import ControlFigures, rate_between, wrong_answer
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import count
from benchmarks.load import Item
from benchmarks.machine import Others
from benchmarks.receiver import Receiver
from benchmarks.run import participants
from benchmarks.service import Service, open_service
from benchmarks.sides import Notifier
from notifier.domain.ladder import PRESETS

LADDER = "default"
PUSHES = 200
#: Notifications a second, and for how many seconds at most: it ends with the pushes.
RATE, LONGEST = 300, 60
#: A merchant whom no notification is for, so that a push costs no delivery.
KEY = "block/bench-nobody"


class ControlRun:
    """One measurement, in two services one after the other. name: part of every id; directory: to be made.

    Two, because a slot's first restart is at once and each further one within a minute waits: so each is killed once.
    """

    def __init__(self, name: str, broker: Broker, receiver: Receiver, directory: Path) -> None:
        self._name = name
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._side = Notifier(broker.url, f"bench-{name}", ladder=LADDER, runtime=str(directory / "run"))
        self._tiers = sorted(set(PRESETS[LADDER]))
        self._slots = [f"tier:{tier.name}" for tier in self._tiers]
        self._before = len(receiver.arrivals)
        self._tier_pss_mb: list[float] = []
        self._master_pss_mb: list[float] = []

    async def measure(self) -> ControlFigures:
        """Everything, in order. Raises BenchmarkFailed for a wrong answer, or if not all arrived exactly once."""
        self._directory.mkdir()
        others = Others(participants(self._broker, self._receiver))
        try:
            async with open_service(self._side, self._directory) as service:
                push_ms, delivered_per_s, due = await self._push_under_load(service)
                await self._weigh(service)
                ready_again_s = await service.kill_each()
            async with open_service(self._side, self._directory) as service:
                await self._weigh(service)
                ready_again_s += await service.kill_each()
            self._receiver.look()
            self._check(due, "in the end")
        finally:
            await self._broker.forget(self._side.namespace, self._tiers)
        return ControlFigures(
            push_ms=push_ms,
            ready_again_s=ready_again_s,
            tier_pss_mb=self._tier_pss_mb,
            master_pss_mb=self._master_pss_mb,
            delivered_per_s=delivered_per_s,
            others_share=others.share,
        )

    async def _push_under_load(self, service: Service) -> tuple[list[float], float, Mapping[str, float]]:
        """Milliseconds of each push, arrivals a second meanwhile, and the due moments of all that was sent."""
        enough = asyncio.Event()
        items = load.items(f"{self._name}-c", RATE * LONGEST, self._receiver.url)
        sending = asyncio.create_task(pace.publish_steadily(self._broker.url, self._side, _until(enough, items), RATE))

        def check() -> None:
            service.require_alive()
            if sending.done():
                sending.result()  # raises what ended it

        try:
            await self._receiver.until(self._before + RATE, check)  # it flows
            began = time.time()
            push_ms = [await self._push(service, number) for number in range(1, PUSHES + 1)]
            ended = time.time()
            enough.set()
            due = await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if len(due) == len(items):
            raise BenchmarkFailed(f"{PUSHES} pushes took longer than the {LONGEST} s of load")
        await self._receiver.until(self._before + len(due), service.require_alive)
        self._check(due, "while the state was pushed")
        return push_ms, rate_between(self._receiver.arrivals[self._before :], began, ended), due

    async def _push(self, service: Service, number: int) -> float:
        """One push, taken back afterwards; its milliseconds from the request to the answer."""
        began = time.perf_counter()
        pushed = await service.operator.ask("push", {"key": KEY, "value": {"blocked": True}, "why": "benchmark"})
        passed = time.perf_counter() - began
        self._require_applied(f"push {number}", pushed)
        self._require_applied(f"clear {number}", await service.operator.ask("clear", {"key": KEY}))
        return passed * 1000

    async def _weigh(self, service: Service) -> None:
        """Memory at rest."""
        master, *tiers = await service.pids()
        self._master_pss_mb.append(proc.pss_megabytes(master))
        self._tier_pss_mb += [proc.pss_megabytes(pid) for pid in tiers]

    def _require_applied(self, what: str, answer: Mapping[str, Any]) -> None:
        if (wrong := wrong_answer(self._slots, answer)) is not None:
            raise BenchmarkFailed(f"{what} of {PUSHES} was not applied everywhere: {wrong}")

    def _check(self, due: Mapping[str, float], when: str) -> None:
        wrong = count(list(due), due, self._receiver.arrivals[self._before :]).wrong
        if wrong is not None:
            raise BenchmarkFailed(f"control line, {when}: {wrong}")


def _until(enough: asyncio.Event, items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as it is not enough."""
    for item in items:
        if enough.is_set():
            return
        yield item
