"""A process that does nothing but take facts into a ledger, to be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from notifier.agent.intake import Intake
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.ledger.late import LateDatabase
from notifier.ledger.writing import FactWriter


def store_until_killed(broker: str, namespace: str, tiers: tuple[str, ...], ledger: str) -> None:
    """Never returns."""
    asyncio.run(_store(broker, Topology(namespace, tuple(Tier.parse(tier) for tier in tiers)), ledger))


async def _store(broker: str, topology: Topology, ledger: str) -> None:
    database = LateDatabase(ledger)
    await database.start()
    publisher = Publisher([broker], topology)
    await publisher.start()
    intake = Intake([broker], topology, publisher, FactWriter(database), _nobody)
    await intake.start()
    await asyncio.Event().wait()


async def _nobody(fact: Mapping[str, Any]) -> None:
    raise AssertionError(f"nobody is to be switched off: {fact}")
