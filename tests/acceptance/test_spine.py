"""The main job through the command line: notifications climb their ladders on a real broker, whatever dies."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import standardwebhooks

from notifier.broker.cleanup import delete_namespace
from notifier.broker.node import PrivateNode
from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import compose
from notifier.domain import wire
from notifier.domain.notification import Notification
from notifier.settings import Settings, load
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.service import SECRET, environment, notifier, running
from tests.conftest import TIERS


@pytest.fixture(params=["native", pytest.param("plugin", marks=pytest.mark.plugin)])
def delay(request: pytest.FixtureRequest) -> str:
    """Everything here holds for both mechanisms, but what needs the broker to die: the plugin loses messages then."""
    return str(request.param)


def settings_of(variables: dict[str, str]) -> Settings:
    return load({}, environment=variables)


async def test_what_is_enqueued_arrives_signed_with_its_payload_and_its_id(
    broker: Any, namespace: str, delay: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_DELAY=delay)
    payload = '{"order": 42,  "state": "paid", "name": "Zoë"}'
    async with Simulator() as merchant, running(variables) as service:
        code, out, _ = await notifier(
            variables, "enqueue", "--merchant", "shop", "--url", f"{merchant.url}/hook", "--payload", payload
        )
        assert code == 0
        received = (await merchant.wait_for(1))[0]
        await service.event("attempt", notification=out.strip(), decision="complete")
    assert received.webhook_id == out.strip()
    assert received.body == payload.encode()
    assert received.attempt == 1
    assert received.headers["content-type"] == "application/json"
    standardwebhooks.Webhook(SECRET).verify(received.body, dict(received.headers))


async def test_a_message_of_another_client_with_nothing_but_a_merchant_and_a_url_is_delivered(
    broker: Any, namespace: str, delay: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_DELAY=delay)
    async with Simulator() as merchant, running(variables):
        connection = await aio_pika.connect(broker.url)
        async with connection:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.get_exchange(f"{namespace}.wait")  # exists whatever mechanism is chosen
            message = aio_pika.Message(
                b"<order/>", message_id="order-42", headers={"merchant": "shop", "url": f"{merchant.url}/xml"}
            )
            await exchange.publish(message, routing_key="1s")
        received = (await merchant.wait_for(1))[0]
    assert received.body == b"<order/>"
    assert received.webhook_id == "order-42"


@pytest.mark.long
async def test_a_tier_process_killed_during_a_callback_costs_a_repetition_and_nothing_else(
    broker: Any, namespace: str, delay: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_DELAY=delay)
    async with Simulator({"/slow": Script.parse("timeout,ok")}) as merchant, running(variables) as service:
        _, out, _ = await notifier(
            variables, "enqueue", "--merchant", "shop", "--url", f"{merchant.url}/slow", "--payload", "{}"
        )
        await merchant.wait_for(1)
        killed = service.pid("1s")
        os.kill(killed, signal.SIGKILL)
        received = await merchant.wait_for(2, timeout=20)
        done = await service.event("attempt", notification=out.strip())
        assert service.pid("1s") != killed
    assert [each.webhook_id for each in received] == [out.strip()] * 2
    assert [each.attempt for each in received] == [1, 1]
    assert done["decision"] == "complete"


async def test_sigterm_lets_a_running_callback_finish_and_exits_with_zero(
    broker: Any, namespace: str, delay: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_DELAY=delay)
    async with Simulator({"/slow": Script.parse("slow:1")}) as merchant, running(variables) as service:
        await notifier(variables, "enqueue", "--merchant", "shop", "--url", f"{merchant.url}/slow", "--payload", "{}")
        await merchant.wait_for(1)
        assert await service.stop() == 0
        finished = [event for event in service.events if event["event"] == "attempt"]
        assert [event["decision"] for event in finished] == ["complete"]
        assert len(merchant.received) == 1


async def test_the_children_go_when_the_master_is_killed_and_lose_nothing(
    broker: Any, namespace: str, delay: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_DELAY=delay)
    async with Simulator({"/slow": Script.parse("slow:1")}) as merchant:
        async with running(variables) as service:
            pids = [service.pid("1s"), service.pid("2s")]
            await notifier(
                variables, "enqueue", "--merchant", "shop", "--url", f"{merchant.url}/slow", "--payload", "{}"
            )
            await merchant.wait_for(1)
            service.process.kill()
            async with asyncio.timeout(20):
                await asyncio.gather(*(gone(pid) for pid in pids))
        # The callback that was running finished in the orphan, so nothing is left to do.
        code, out, _ = await notifier(variables, "topology", "show", "--json")
        assert code == 0
        waiting = {each["name"]: each["ready"] for each in json.loads(out)["queues"]}
        assert {waiting[f"{namespace}.{name}"] for name in ("work.1s", "work.2s", "wait.1s", "wait.2s", "poison")} == {
            0
        }


@pytest.mark.long  # integration/amqp/test_careful shows it, and a row of the fault suite
async def test_a_message_that_kills_its_process_is_poison_and_the_innocent_beside_it_are_delivered(
    broker: Any, namespace: str, delay: str, tmp_path: Path
) -> None:
    (tmp_path / "killing.py").write_text(
        "import os\n"
        "from notifier.domain.outcome import Outcome\n"
        "async def callback(notification):\n"
        "    if notification.payload == b'\"kill\"':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    with open(os.environ['DELIVERED'], 'a') as file:\n"
        "        file.write(notification.id + '\\n')\n"
        "    return Outcome.ok()\n"
    )
    delivered = tmp_path / "delivered"
    variables = environment(
        broker.url,
        namespace,
        NOTIFIER_LADDER="1s",
        NOTIFIER_DELAY=delay,
        NOTIFIER_CALLBACK="killing:callback",
        DELIVERED=str(delivered),
    )
    batch = [{"merchant": "m", "id": f"innocent-{number}", "payload": number} for number in range(200)]
    batch.insert(100, {"merchant": "m", "id": "killer", "payload": "kill"})
    lines = "\n".join(json.dumps(line) for line in batch).encode()
    code, out, err = await notifier(variables, "enqueue", "--file", "-", stdin=lines)
    assert code == 0, err
    assert len(out.splitlines()) == 201
    async with running(variables, cwd=tmp_path) as service:
        poisoned = await service.event("poisoned", timeout=60)
        innocent = {f"innocent-{number}" for number in range(200)}
        await service.settled(innocent)
        assert "died 3 times" in poisoned["why"]
    assert set(delivered.read_text().split()) == innocent
    code, out, _ = await notifier(variables, "poison", "list", "--json")
    assert [message["id"] for message in json.loads(out)] == ["killer"]


@pytest.mark.long  # integration/amqp/test_publisher_node shows it, and a row of the fault suite
@pytest.mark.timeout(170)
@pytest.mark.parametrize("ladder", ["5s,12s", "1s,3s,5s,15s,30s"])
async def test_a_broker_killed_while_a_thousand_wait_in_all_tiers_delivers_them_all(
    own_node: PrivateNode, ladder: str
) -> None:
    node = own_node
    async with Simulator() as merchant:
        variables = environment(node.url, namespace := f"killed-{secrets.token_hex(4)}", NOTIFIER_LADDER=ladder)
        async with running(variables) as service:
            waiting = await wait_in_all_tiers(settings_of(variables), 1000, f"{merchant.url}/hook")
            await node.write_queue_names()
            await node.kill()
            await node.restart()
            received = await merchant.wait_for(
                lambda seen: {each.webhook_id for each in seen} >= set(waiting), timeout=100
            )
            lost_links = [event for event in service.events if event["event"] == "broker.lost"]
    await delete_namespace(node.url, namespace, TIERS)
    assert lost_links, "the kill did not bite"
    assert {each.webhook_id for each in received} == set(waiting)
    due = {notification_id: waits.due_at for notification_id, waits in waiting.items()}
    assert not [each for each in received if each.ts < due[each.webhook_id]], "no attempt before its due moment"
    times = Counter(each.webhook_id for each in received)
    doubled = [waiting[notification_id].step for notification_id, count in times.items() if count > 1]
    assert set(doubled) <= {0}, "only what was due and in flight when the broker died may come twice"


async def wait_in_all_tiers(settings: Settings, count: int, url: str) -> dict[str, Notification]:
    """Notifications that wait for their first, second … last attempt, spread evenly; confirmed by the broker."""
    topology = Topology(settings.namespace, settings.tiers)
    publisher = Publisher(settings.amqp_urls, topology)
    await publisher.start(10)
    ladder = settings.default_ladder
    # The tiers of a few seconds come last, so that none is due before the broker is killed.
    steps = sorted((number % len(ladder) for number in range(count)), reverse=True)

    async def publish(number: int, step: int) -> Notification:
        composed = compose(settings, merchant=f"m{number % 7}", payload=b"{}", url=url)
        tier = ladder[step]
        on_its_way = composed.climbing(ladder, tier, step, int(time.time() * 1000))
        await publisher.publish_by(topology.way(tier), wire.write(on_its_way, fresh_message_id()))
        return on_its_way

    try:
        published = await asyncio.gather(*(publish(number, step) for number, step in enumerate(steps)))
    finally:
        await publisher.close()
    return {on_its_way.id: on_its_way for on_its_way in published}


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(descriptor, lambda: ended.done() or ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
