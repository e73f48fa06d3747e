"""A start without the database: tiers begin with this machine's copy, say that it is stale, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, notifier, running
from tests.acceptance.truth import Books, received_by
from tests.integration.api.client import Client
from tests.postgres import PrivatePostgres

SLOTS = {"tier:0s", "tier:1s", "agent", "api"}


async def stale(variables: Mapping[str, str]) -> dict[str, bool]:
    """Of each slot whether `ctl status` says that its merchants may be out of date."""
    code, out, err = await notifier(variables, "ctl", "status", "--json")
    assert code == 0, err
    registries = {slot["slot"]: slot["statistics"].get("registry") for slot in json.loads(out)["slots"]}
    return {slot: bool(registry and registry["stale_since"]) for slot, registry in registries.items()}


@pytest.mark.long  # integration/test_registrar shows it without a service
async def test_a_service_that_starts_without_its_database_delivers_with_the_copy_and_is_fresh_when_it_is_back(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s", NOTIFIER_LOG__LEVEL="warning")
    async with PrivatePostgres() as server, Simulator() as merchants:
        variables["NOTIFIER_DATABASE_URL"] = url = await server.new_database()
        async with running(variables, whole=True) as service, Client(service, variables, None) as api:
            assert (await api.post("/v1/merchants", {"id": "shop", "url": f"{merchants.url}/shop"})).status == 201
        await server.kill()
        async with running(variables, whole=True) as service, Client(service, variables, None) as api:

            async def all_stale() -> bool:
                return await stale(variables) == dict.fromkeys(SLOTS, True)

            await api.becomes(all_stale)
            code, page, _ = await notifier(variables, "ctl", "status")
            assert (code, "4 of 4 processes know the merchants as they were at" in page) == (0, True), page
            assert "! agent writes nothing down: the ledger's database" in page
            ids = [(await api.accepted({"merchant": "shop", "payload": 1}))["id"] for _ in range(20)]
            (stranger,) = [(await api.accepted({"merchant": "stranger", "payload": 1}))["id"]]
            seen = await merchants.wait_for(20)
            assert sorted(str(each.webhook_id) for each in seen) == sorted(ids)
            assert {each.path for each in seen} == {"/shop"}
            assert (await api.get("/v1/notifications")).status == 503
            refused = await api.post("/v1/merchants/shop/block")
            assert (refused.status, "database" in refused.problem) == (503, True)
            await server.start()

            async def all_fresh() -> bool:
                return await stale(variables) == dict.fromkeys(SLOTS, False)

            await api.becomes(all_fresh)
            await api.until(stranger, status="held", reason="unknown-merchant")
            for each in ids:
                await api.until(each, status="completed")
            assert await Books(url).attempts() == received_by(merchants)
            assert (await api.post("/v1/merchants/shop/block")).json["live"]["live"] == 3
            assert [event for event in service.events if event["event"] in ("child.ended", "fact.poisoned")] == []
