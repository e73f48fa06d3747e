"""One whole service for most tests of the HTTP API: master, tiers, agent and API, with a token, on SQLite."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from notifier.broker.cleanup import delete_namespace
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, running
from tests.conftest import TIERS, TestBroker
from tests.integration.api.client import TOKEN, Client


@pytest.fixture(scope="session")
async def merchants() -> AsyncIterator[Simulator]:
    """Merchants on one port: `/never` never acknowledges, `/gone` is gone for good, every other path does."""
    scripts = {"/never": Script.parse("500"), "/gone": Script.parse("410")}
    async with Simulator(scripts) as simulator:
        yield simulator


@pytest.fixture(scope="session")
async def api(broker: TestBroker) -> AsyncIterator[Client]:
    """A client of the service, with the token of its settings."""
    namespace = f"test-{secrets.token_hex(4)}"
    variables = environment(broker.url, namespace, NOTIFIER_API__TOKEN=TOKEN, NOTIFIER_LADDER="0s,1s,2s")
    async with running(variables, whole=True) as service, Client(service, variables) as client:
        yield client
    await delete_namespace(broker.url, namespace, TIERS)
