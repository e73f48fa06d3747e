"""A release of a test, and all around it: a ledger, a publisher, what the registry, operators and breakers say."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ledgers import open_ledger
from publishing import publishing
from queues import Bench

from notifier.agent.allowance import Allowance
from notifier.agent.breakers import Breakers
from notifier.agent.marking import Marker
from notifier.agent.pace import Pace
from notifier.agent.release import Release
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.facts import Recorder
from notifier.domain import wire
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant, Standing
from notifier.domain.tier import Tier
from notifier.ledger import merchants
from notifier.ledger.late import LateDatabase
from notifier.ledger.merchants import Row
from notifier.ledger.writing import FactWriter
from notifier.sections import Isolation

DEFAULT = Ladder.parse("0s,5s,1s")


@dataclass
class Stage:
    """A release and all around it. known: what the registry says, changed by `becomes`."""

    bench: Bench
    database: LateDatabase
    topology: Topology
    publisher: Publisher
    writer: FactWriter
    release: Release
    breakers: Breakers
    known: dict[str, Merchant] = field(default_factory=dict)
    overrides: set[str] = field(default_factory=set)
    now: list[float] = field(default_factory=lambda: [time.time()])

    async def store(self, *facts: dict[str, Any]) -> None:
        """Facts that came from tier processes."""
        await self.writer.write(facts)

    async def becomes(
        self, merchant: str, standing: Standing, url: str | None = "http://127.0.0.1/", **more: Any
    ) -> None:
        """A change of the registry, in the database and in what is looked up."""
        body = "{}" if url is not None else None
        until = more.pop("until", None)
        row_ = Row(merchant, 0, body, str(standing), until, url, 1)
        await merchants.change(self.database, merchant, lambda _: row_)
        self.known[merchant] = Merchant(merchant, url=url, standing=standing, until=until, **more)

    async def next_in(self, tier: Tier) -> Any:
        """What comes next in a work queue, as a tier process reads it."""
        (message,) = await self.bench.take(self.topology.work_queue(tier))
        return wire.read(message)


@asynccontextmanager
async def staged(
    broker_url: str,
    bench: Bench,
    topology: Topology,
    ledger_url: str,
    *,
    concurrency: int = 2000,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Stage]:
    """One for the length of the block. concurrency: the window. clock: Unix seconds; without one it is `Stage.now`."""
    known: dict[str, Merchant] = {}
    overrides: set[str] = set()
    now = [time.time()]
    clock = clock or (lambda: now[0])
    async with open_ledger(ledger_url) as database, publishing(broker_url, topology) as publisher:
        recorder = Recorder(publisher, topology)
        writer = FactWriter(database)
        breakers = Breakers(clock, 600)
        release = Release(
            database,
            publisher,
            topology,
            Marker(writer, recorder),
            Pace(10_000),
            known.get,
            Allowance(Isolation(concurrency=concurrency), breakers, clock, clock),
            overrides.__contains__,
            DEFAULT,
            topology.tiers,
            needs_url=True,
            clock=clock,
            calm=0.0,
        )
        yield Stage(bench, database, topology, publisher, writer, release, breakers, known, overrides, now)
        await recorder.close()
