"""A real service with 10 and with 100,000 merchants: start, memory, one change. Explained in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import load, pace, proc
from benchmarks.broker import Broker
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import count
from benchmarks.load import Item
from benchmarks.machine import Others
from benchmarks.receiver import Receiver
from benchmarks.registry_figures import RegistryComparison, RegistryFigures
from benchmarks.run import participants
from benchmarks.service import Service, open_service
from benchmarks.sides import Notifier
from notifier.domain.registration import Registration
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.ledger.migrating import migrate
from notifier.registry import form

FEW, MANY = 10, 100_000
#: Both numbers of merchants in turn, so often.
ROUNDS = 2
#: Starts with a copy that is there, and changes, in each round.
STARTS, CHANGES = 3, 50
#: Notifications in each round, to that many merchants where there are so many: more than a process keeps in memory.
NOTIFICATIONS, RATE = 2000, 400


@dataclass(frozen=True)
class Registered(Notifier):
    """A service whose merchants are registered: no notification brings a url. merchants: how many there are."""

    merchants: int = FEW

    @property
    def environment(self) -> dict[str, str]:
        """Everything of it lies in one directory."""
        return {**super().environment, "NOTIFIER_STATE_DIR": self.runtime, "NOTIFIER_API__PORT": "0"}

    def work(self) -> list[str]:
        """With the agent, which keeps the registry."""
        return [sys.executable, "-m", "notifier", "run", "--no-api"]

    def headers(self, item: Item, due_ms: int) -> dict[str, str | int]:
        """To merchant after merchant."""
        number = int(item.id.rpartition("-")[2])
        headers = super().headers(item, due_ms) | {"merchant": f"merchant-{number % self.merchants}"}
        del headers["url"]
        return headers


class RegistryRun:
    """One comparison. name: part of every id; directory: to be made."""

    def __init__(self, name: str, broker: Broker, receiver: Receiver, directory: Path) -> None:
        self._name = name
        self._broker = broker
        self._receiver = receiver
        self._directory = directory

    async def measure(self) -> RegistryComparison:
        """Everything, in order. Raises BenchmarkFailed for a wrong answer, or if not all arrived exactly once."""
        self._directory.mkdir()
        others = Others(participants(self._broker, self._receiver))
        few, many = _nothing(), _nothing()
        for number in range(ROUNDS):
            for merchants, figures in ((FEW, few), (MANY, many)):
                _add(figures, await self._round(f"{self._name}-{number}-{merchants}", merchants))
        return RegistryComparison(FEW, MANY, few, many, others.share)

    async def _round(self, name: str, merchants: int) -> RegistryFigures:
        directory = self._directory / name
        directory.mkdir()
        side = Registered(self._broker.url, f"bench-{name}", runtime=str(directory / "state"), merchants=merchants)
        (directory / "state").mkdir(mode=0o700)
        await fill(directory / "state" / "ledger.db", merchants, self._receiver.url)
        figures = _nothing()
        try:
            async with self._started(side, directory) as (_, seconds, _):
                figures.first_start_s.append(seconds)
            for _ in range(STARTS - 1):
                async with self._started(side, directory) as (_, seconds, cpu):
                    figures.start_s.append(seconds)
                    figures.start_cpu_s.append(cpu)
            await self._work(side, directory, figures)
        finally:
            await self._broker.forget(side.namespace, [Tier.parse(side.ladder)])
        return figures

    @asynccontextmanager
    async def _started(self, side: Registered, directory: Path) -> AsyncIterator[tuple[Service, float, float]]:
        """A service, the seconds from its start until every process was ready, and what CPU they spent by then."""
        began = time.monotonic()
        async with open_service(side, directory) as service:
            seconds = time.monotonic() - began
            yield service, seconds, proc.cpu_seconds([slot["pid"] for slot in await service.slots()])

    async def _work(self, side: Registered, directory: Path, figures: RegistryFigures) -> None:
        """Notifications to many merchants, then changes, then a look at the memory."""
        async with self._started(side, directory) as (service, seconds, cpu):
            figures.start_s.append(seconds)
            figures.start_cpu_s.append(cpu)
            await self._deliver(side, service)
            for number in range(CHANGES):
                figures.change_ms.append(await _change(service, f"merchant-{number % side.merchants}", number + 1))
            slots = {slot["slot"]: slot["pid"] for slot in await service.slots()}
            await proc.cpu_seconds_at_rest(list(slots.values()))
            figures.tier_pss_mb.append(proc.pss_megabytes(slots[f"tier:{side.ladder}"]))
            figures.agent_pss_mb.append(proc.pss_megabytes(slots["agent"]))
            answer = await service.operator.ask("restart", {"to": "tier"}, timeout=60)
            figures.tier_restart_s.append(answer["slots"][0]["seconds"])

    async def _deliver(self, side: Registered, service: Service) -> None:
        before = len(self._receiver.arrivals)
        items = load.items(f"{side.namespace}-n", NOTIFICATIONS, self._receiver.url)
        due = await pace.publish_steadily(self._broker.url, side, items, RATE)
        await self._receiver.until(before + len(due), service.require_alive)
        wrong = count(list(due), due, self._receiver.arrivals[before:]).wrong
        if wrong is not None:
            raise BenchmarkFailed(f"registry: {wrong}")


async def fill(file: Path, merchants: int, url: str) -> None:
    """A ledger with so many registered merchants, as if each had been added by itself."""
    await migrate(f"sqlite:///{file}")
    await asyncio.to_thread(_insert, file, merchants, url)


def _insert(file: Path, merchants: int, url: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany(
            "INSERT INTO merchants (id, version, body, standing, until, url, changed_at) "
            "VALUES (?, ?, ?, 'enabled', NULL, ?, 0)",
            _rows(merchants, url),
        )
        connection.execute(
            "INSERT INTO registry_version (id, origin, version) VALUES (1, 'benchmark', ?)", (merchants,)
        )


def _rows(merchants: int, url: str) -> Iterator[tuple[str, int, str, str]]:
    for number in range(merchants):
        merchant, address = f"merchant-{number}", f"{url}/merchant-{number}"
        registration = Registration(merchant, url=address, secret=Secret.fresh(), headers=(("X-Shop", str(number)),))
        yield merchant, number + 1, form.written(registration), address


async def _change(service: Service, merchant: str, rate: int) -> float:
    """One change; its milliseconds from the request to the answer."""
    data = {"op": "set", "merchant": merchant, "fields": {"rate": rate}, "who": "benchmark"}
    body = {"to": "agent", "action": "merchants.change", "data": data}
    began = time.perf_counter()
    [reply] = (await service.operator.ask("send", body))["replies"]
    passed = (time.perf_counter() - began) * 1000
    live: Any = (reply.get("data") or {}).get("ok", {}).get("live", {})
    if not live.get("of") or live["live"] != live["of"] or live["missing"]:
        raise BenchmarkFailed(f"a change of {merchant} is not live everywhere: {reply}")
    return passed


def _nothing() -> RegistryFigures:
    return RegistryFigures(*([] for _ in fields(RegistryFigures)))


def _add(figures: RegistryFigures, more: RegistryFigures) -> None:
    for each in fields(RegistryFigures):
        getattr(figures, each.name).extend(getattr(more, each.name))
