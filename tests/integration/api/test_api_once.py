"""A request with an Idempotency-Key makes nothing twice, however often it comes and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
import time
from collections import Counter

import pytest
from sqlalchemy import insert, select, update

from notifier.broker.cleanup import delete_namespace
from notifier.broker.node import PrivateNode
from notifier.ledger import claims
from notifier.ledger.schema import claims as table
from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, running
from tests.conftest import TIERS
from tests.integration.api.client import TOKEN, Client


def stated(merchants: Simulator, payload: object = 1) -> dict[str, object]:
    return {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": payload, "ladder": "0s"}


async def test_two_hundred_at_once_with_one_key_make_one_notification(api: Client, merchants: Simulator) -> None:
    key = {"Idempotency-Key": "two-hundred"}
    body = stated(merchants, "two hundred")
    answers = await asyncio.gather(*(api.post("/v1/notifications", body, headers=key) for _ in range(200)))
    assert Counter(answer.status for answer in answers) == {202: 200}
    ids = {answer.json["id"] for answer in answers}
    assert len(ids) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    await api.until(ids.pop(), status="completed", attempts=1)
    await api.accepted(stated(merchants, "afterwards"))
    assert [each.body for each in merchants.received].count(b'"two hundred"') == 1


async def test_the_same_key_is_answered_as_it_was(api: Client, merchants: Simulator) -> None:
    key = {"Idempotency-Key": "again"}
    body = {"notifications": [stated(merchants), {"merchant": ""}]}
    first = await api.post("/v1/notifications", body, headers=key)
    second = await api.post("/v1/notifications", body, headers=key)
    assert (first.status, first.body) == (second.status, second.body)
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")


async def test_a_key_of_another_request_is_refused(api: Client, merchants: Simulator) -> None:
    key = {"Idempotency-Key": "mine"}
    await api.accepted(stated(merchants, 1), headers=key)
    other = await api.post("/v1/notifications", stated(merchants, 2), headers=key)
    assert (other.status, "needs a new key" in other.problem) == (422, True)


async def test_a_request_that_was_refused_leaves_its_key_free(api: Client, merchants: Simulator) -> None:
    key = {"Idempotency-Key": "corrected"}
    assert (await api.post("/v1/notifications", {"merchant": "shop-7"}, headers=key)).status == 422
    await api.accepted(stated(merchants), headers=key)


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 257])
async def test_what_is_no_key_is_refused(api: Client, merchants: Simulator, key: str) -> None:
    answer = await api.post("/v1/notifications", stated(merchants), headers={"Idempotency-Key": key})
    assert (answer.status, "printable ASCII" in answer.problem) == (422, True)


async def test_a_key_is_its_token_s_own(api: Client, merchants: Simulator) -> None:
    key = {"Idempotency-Key": "shared"}
    mine = await api.accepted(stated(merchants), headers=key)
    made = await api.post("/v1/tokens", {"role": "write"})
    other = {**key, "Authorization": f"Bearer {made.json['token']}"}
    assert (await api.accepted(stated(merchants), headers=other))["id"] != mine["id"]


async def test_a_claim_whose_owner_died_is_taken_over_with_its_ids(api: Client, merchants: Simulator) -> None:
    body = json.dumps(stated(merchants, "taken over")).encode()
    now_ms = int(time.time() * 1000)
    row = {
        "scope": "settings",
        "key": "orphan",
        "digest": hashlib.sha256(body).hexdigest(),
        "ids": '["claimed-before"]',
        "created_at": now_ms - claims.LEASE - 1,
        "taken_at": now_ms - claims.LEASE - 1,
    }
    async with api.database() as database, database.begin() as connection:
        await connection.execute(insert(table).values(row))
    headers = {"Idempotency-Key": "orphan", "Content-Type": "application/json"}
    answers = await asyncio.gather(*(api.post("/v1/notifications", data=body, headers=headers) for _ in range(10)))
    assert [(answer.status, answer.json["id"]) for answer in answers] == [(202, "claimed-before")] * 10
    await api.until("claimed-before", status="completed", attempts=1)


async def test_an_answer_is_forgotten_after_a_day(api: Client, merchants: Simulator) -> None:
    key = {"Idempotency-Key": "yesterday"}
    first = await api.accepted(stated(merchants), headers=key)
    async with api.database() as database, database.begin() as connection:
        yesterday = int(time.time() * 1000) - claims.LIFE - 1
        await connection.execute(update(table).where(table.c.key == "yesterday").values(created_at=yesterday))
    assert (await api.accepted(stated(merchants, "another"), headers=key))["id"] != first["id"]


@pytest.mark.long  # a claim that is taken over is shown above, the death by a row of the fault suite
async def test_an_api_killed_while_it_publishes_leaves_ids_that_the_next_one_publishes(
    own_node: PrivateNode, merchants: Simulator
) -> None:
    node, namespace = own_node, f"once-{secrets.token_hex(4)}"
    variables = environment(
        node.url, namespace, NOTIFIER_API__TOKEN=TOKEN, NOTIFIER_LADDER="0s", NOTIFIER_API__PORT="0"
    )
    async with running(variables, whole=True) as service, Client(service, variables) as client:
        body, key = stated(merchants, "killed"), {"Idempotency-Key": "killed"}
        os.kill(node.pid, signal.SIGSTOP)
        try:
            asking = asyncio.create_task(client.post("/v1/notifications", body, headers=key))
            claimed = await claimed_ids(client, "killed")
            os.kill(service.pid_of("api"), signal.SIGKILL)
            await asyncio.wait([asking])
            assert asking.exception() is not None
        finally:
            os.kill(node.pid, signal.SIGCONT)
        await service.event("child.ready", slot="api", epoch=2)
        listening = await service.several(2, "api.listening")
        client.url = listening[-1]["url"]
        accepted = await client.accepted(body, headers=key)
        assert [accepted["id"]] == claimed
        await client.until(accepted["id"], status="completed")
    await delete_namespace(node.url, namespace, TIERS)


async def claimed_ids(client: Client, key: str) -> list[str]:
    """The ids of a claim, once it is there."""
    async with client.database() as database, asyncio.timeout(10):
        while True:
            async with database.connect() as connection:
                found = (await connection.execute(select(table.c.ids).where(table.c.key == key))).scalar()
            if found is not None:
                return list(json.loads(found))
            await asyncio.sleep(0.02)
