"""What the API says when something is away: the broker, the database, the agent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator

import aio_pika
import aiohttp
import pytest

from notifier.api import accepting
from notifier.broker.cleanup import delete_namespace
from notifier.broker.node import PrivateNode
from notifier.simulator.server import Simulator
from tests.acceptance.control import operator_of
from tests.acceptance.service import environment, running
from tests.conftest import TIERS
from tests.integration.api.client import TOKEN, Answer, Client

LADDER = "0s,1s"


@pytest.fixture(scope="module")
def node(own_node: PrivateNode) -> PrivateNode:
    return own_node


@pytest.fixture(scope="module")
async def service(node: PrivateNode) -> AsyncIterator[Client]:
    namespace = f"faults-{secrets.token_hex(4)}"
    variables = environment(node.url, namespace, NOTIFIER_API__TOKEN=TOKEN, NOTIFIER_LADDER=LADDER)
    async with running(variables, whole=True) as service, Client(service, variables) as client:
        yield client
    await delete_namespace(node.url, namespace, TIERS)


async def test_without_the_broker_nothing_is_accepted_and_the_same_key_succeeds_afterwards(
    node: PrivateNode, service: Client, merchants: Simulator
) -> None:
    await node.write_queue_names()
    await node.kill()
    body = {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": "broker", "id": "while-it-was-away"}
    key = {"Idempotency-Key": "while-it-was-away"}
    began = time.monotonic()
    one, many = await asyncio.gather(
        service.post("/v1/notifications", body, headers=key),
        service.post("/v1/notifications", {"notifications": [{**body, "id": f"many-{n}"} for n in range(50)]}),
    )
    assert time.monotonic() - began < 9
    for answer in (one, many):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), answer
        assert "not accepted" in answer.problem
    assert (await service.get("/readyz")).status == 503
    assert (await service.get("/healthz")).status == 200
    await node.restart()

    async def ready() -> bool:
        return (await service.get("/readyz")).status == 200

    await service.becomes(ready, 60)
    assert (await service.accepted(body, headers=key))["id"] == "while-it-was-away"
    await service.until("while-it-was-away", timeout=60, status="completed")


async def test_under_an_alarm_it_is_refused_at_once_and_who_asks_again_and_again_is_delivered_once(
    node: PrivateNode, service: Client, merchants: Simulator
) -> None:
    def stated(notification: str) -> dict[str, str]:
        return {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": "alarm", "id": notification}

    async def refused() -> bool:  # the first publish under an alarm goes through, and makes RabbitMQ say so
        answer = await service.post("/v1/notifications", stated(f"before-{secrets.token_hex(4)}"))
        return answer.status == 503 and "takes nothing now" in answer.problem

    async def ready() -> bool:
        return (await service.get("/readyz")).status == 200

    async def confirm() -> Answer:
        return await service.post("/v1/pull/confirm?merchant=shop-7", {"ids": [undelivered["id"]]})

    undelivered = await service.accepted(stated("undelivered") | {"url": f"{merchants.url}/never", "ladder": "0s"})
    await service.until("undelivered", status="exhausted")
    await node.ctl("set_vm_memory_high_watermark", "0")
    try:
        await service.becomes(refused, 60)
        began = time.monotonic()
        for n in range(30):
            key = {"Idempotency-Key": "under-an-alarm"} if n % 2 else {}
            answer = await service.post("/v1/notifications", stated("under-an-alarm"), headers=key)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), answer
            assert "takes nothing now" in answer.problem
        confirmed = await confirm()
        assert (confirmed.status, "takes nothing now" in confirmed.problem) == (503, True), confirmed
        assert time.monotonic() - began < accepting.SILENCE, "not one of them waited"
        assert not await ready()
    finally:
        await node.ctl("set_vm_memory_high_watermark", "absolute", "1GiB")
    await service.becomes(ready, 60)
    await service.accepted(stated("under-an-alarm"), headers={"Idempotency-Key": "under-an-alarm"})
    await service.until("under-an-alarm", timeout=60, status="completed")
    assert (await confirm()).status == 200
    await service.accepted(stated("after-an-alarm"))
    await service.until("after-an-alarm", timeout=60, status="completed")
    assert [each.webhook_id for each in merchants.received].count("under-an-alarm") == 1


async def test_without_the_agent_notifications_are_accepted_and_changes_are_refused(
    service: Client, merchants: Simulator
) -> None:
    async with operator_of(service.variables) as operator:
        await operator.ask("drain", {"to": "agent"})
        accepted = await service.accepted({"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": "no agent"})
        refused = await service.post("/v1/merchants", {"id": "without-agent"})
        assert (refused.status, "agent is not running" in refused.problem) == (503, True), refused.problem
        await operator.ask("restart", {"to": "agent"}, timeout=60)
    await service.until(accepted["id"], timeout=60, status="completed")
    assert (await service.post("/v1/merchants", {"id": "without-agent"})).status == 201


async def test_without_the_database_notifications_are_accepted_but_no_key_is(
    service: Client, merchants: Simulator
) -> None:
    body = {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": "locked"}
    async with service.database() as database, database.begin() as connection:  # the only one that may write now
        await connection.exec_driver_sql("UPDATE claims SET taken_at = taken_at")
        accepted = await service.accepted(body)
        refused = await service.post("/v1/notifications", body, headers={"Idempotency-Key": "locked"})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        assert "database" in refused.problem
    await service.until(accepted["id"], timeout=60, status="completed")
    await service.accepted(body, headers={"Idempotency-Key": "locked"})


async def test_an_api_that_is_restarted_ends_the_streams_that_are_open(service: Client) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.get(f"{service.url}/v1/stream") as answer,
        operator_of(service.variables) as operator,
    ):
        assert await answer.content.readline() == b"retry: 2000\n"
        restarting = asyncio.create_task(operator.ask("restart", {"to": "api"}, timeout=60))
        async with asyncio.timeout(10):
            await answer.content.read()
        (restarted,) = (await restarting)["slots"]
    assert (restarted["result"], restarted["seconds"] < 25) == ("restarted", True), "it waited for nobody"
    service.url = (await service.service.several(2, "api.listening"))[-1]["url"]

    async def ready() -> bool:
        return (await service.get("/readyz")).status == 200

    await service.becomes(ready)


async def test_queues_that_were_deleted_are_there_again_for_the_next_request(
    node: PrivateNode, service: Client, merchants: Simulator
) -> None:
    async with await aio_pika.connect(node.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(f"{service.variables['NOTIFIER_NAMESPACE']}.wait.1s")
    body = {"merchant": "shop-7", "url": f"{merchants.url}/ok", "payload": "deleted", "ladder": "1s"}
    refused = await service.post("/v1/notifications", body)
    assert (refused.status, "was it deleted" in refused.problem) == (503, True), refused
    accepted = await service.accepted(body)
    await service.until(accepted["id"], status="completed")
