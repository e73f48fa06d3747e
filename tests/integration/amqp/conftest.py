"""What the tests of broker and delivery share: a plain client, a topology of their own, a node that may be killed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import aiormq
import pytest
from aiormq.channel import Channel
from queues import Bench

from notifier.broker.connection import Link
from notifier.broker.declare import declare
from notifier.broker.topology import Topology, owned_names
from notifier.domain.tier import Tier
from tests.conftest import Lending

TIERS = (Tier(0), Tier(1), Tier(5))


@pytest.fixture
async def bench(broker) -> AsyncIterator[Bench]:
    """A plain client of the broker."""
    async with Bench.at(broker.url) as bench:
        yield bench


@pytest.fixture(scope="session")
async def deleting(broker) -> AsyncIterator[Channel]:
    """A channel by which the broker is told what to delete, while the next test runs already."""
    async with await aiormq.connect(broker.url) as connection:
        yield cast(Channel, await connection.channel())


@pytest.fixture
async def topology(deleting: Channel) -> AsyncIterator[Topology]:
    """A topology of three tiers; nothing of it is declared before the test, nothing is left of it afterwards."""
    topology = Topology(f"test-{secrets.token_hex(4)}", TIERS)
    yield topology
    of_each = [owned_names(replace(topology, mechanism="plugin", partitions=partitions)) for partitions in range(1, 5)]
    for queue in {name for queues, _ in of_each for name in queues}:
        await deleting.queue_delete(queue, nowait=True)
    for exchange in {name for _, exchanges in of_each for name in exchanges}:
        await deleting.exchange_delete(exchange, nowait=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
async def ledger_url(request: pytest.FixtureRequest, tmp_path: Path, lend_ledger: Lending) -> AsyncIterator[str]:
    """As everywhere, but on PostgreSQL in the long suite: what the ledger itself does is tested on both by its own
    tests. A test for which the database makes a difference names both.
    """
    async with lend_ledger(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a heartbeat of 1 s a dead line is noticed after 2 s instead of 6."""
    monkeypatch.setattr(aiormq.Connection, "HEARTBEAT_GRACE_MULTIPLIER", 1)


@pytest.fixture
async def declared(broker, topology: Topology) -> None:
    """The topology stands on the broker."""
    link = Link([broker.url], "test", lambda channel: declare(channel, topology))
    await link.start(10)
    await link.close()
