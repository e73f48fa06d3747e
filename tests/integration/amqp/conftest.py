"""What the tests of broker and delivery share: a plain client, a topology of their own, a node that may be killed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from queues import Bench

from notifier.broker.cleanup import delete_namespace
from notifier.broker.connection import Link
from notifier.broker.declare import declare
from notifier.broker.node import PrivateNode
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier

TIERS = (Tier(0), Tier(1), Tier(5))


@pytest.fixture
async def bench(broker) -> AsyncIterator[Bench]:
    """A plain client of the broker."""
    async with Bench.at(broker.url) as bench:
        yield bench


@pytest.fixture
async def topology(broker) -> AsyncIterator[Topology]:
    """A topology of three tiers; nothing of it is declared before the test, nothing is left of it afterwards."""
    topology = Topology(f"test-{secrets.token_hex(4)}", TIERS)
    yield topology
    await delete_namespace(broker.url, topology.namespace, TIERS)


@pytest.fixture(scope="session")
async def own_node() -> AsyncIterator[PrivateNode]:
    """A broker that a test may kill, alarm and close connections of, without harm to the others' broker."""
    async with await PrivateNode.start() as node:
        yield node


@pytest.fixture
async def declared(broker, topology: Topology) -> None:
    """The topology stands on the broker."""
    link = Link([broker.url], "test", lambda channel: declare(channel, topology))
    await link.start(10)
    await link.close()
