"""`notifier poison`: what could not be worked is seen, put back or thrown away, and never lost by being looked at."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest

from notifier.broker import poison, poison_queue
from notifier.broker.connection import open_once
from notifier.broker.declare import declare
from notifier.broker.inspect import looking
from notifier.broker.topology import WORK_DELIVERY_LIMIT, Topology
from notifier.domain.tier import Tier
from notifier.domain.wire import Message
from tests.acceptance.service import environment, notifier
from tests.integration.amqp.queues import Bench

FIVE = Tier(5)
REASON = "header 'step' must be a whole number, 0 or more; it is 'x'"


@pytest.fixture
def variables(broker: Any, namespace: str) -> dict[str, str]:
    return environment(broker.url, namespace, NOTIFIER_LADDER="0s,5s")


@pytest.fixture
async def bench(broker: Any) -> AsyncIterator[Bench]:
    async with Bench.at(broker.url) as bench:
        yield bench


@pytest.fixture
async def topology(broker: Any, namespace: str) -> Topology:
    topology = Topology(namespace, (Tier(0), Tier(5)))
    link = await open_once([broker.url], "test", 10)
    await declare(await link.channel(), topology)
    await link.close()
    return topology


@pytest.fixture
async def three(bench: Bench, topology: Topology) -> list[str]:
    """Three messages as a tier process condemns them; their ids."""
    names = ["ntf_a", "ntf_b", "ntf_c"]
    for name in names:
        await put(
            bench,
            topology,
            Message(b'{"of":"%s"}' % name.encode(), {"notification": name, "merchant": "m", "step": "x"}),
        )
    return names


async def put(bench: Bench, topology: Topology, message: Message, tier: Tier = FIVE) -> None:
    """Put a message on the poison queue as a tier process does."""
    put = poison.marked(message, tier, REASON, int(time.time() * 1000))
    await bench.publish(
        "",
        topology.poison,
        put.body,
        put.headers,
        message_id=put.message_id,
        correlation_id=put.correlation_id,
        content_type="application/json",
    )


async def listed(variables: dict[str, str], *options: str) -> list[dict[str, Any]]:
    code, out, err = await notifier(variables, "poison", "list", "--json", *options)
    assert (code, err) == (0, "")
    found: list[dict[str, Any]] = json.loads(out)
    return found


async def test_before_anything_was_declared_nothing_is_poisoned(variables: dict[str, str], namespace: str) -> None:
    assert await listed(variables) == []
    code, out, _ = await notifier(variables, "poison", "list")
    assert (code, out) == (0, f"{namespace}.poison is empty\n")


async def test_looking_again_and_again_leaves_everything_there_in_its_order(
    variables: dict[str, str], three: list[str]
) -> None:
    for _ in range(3):
        assert [each["id"] for each in await listed(variables)] == three
        await notifier(variables, "poison", "show", "ntf_b")
        assert [each["id"] for each in await listed(variables, "--limit", "2")] == three[:2]
    assert [each["id"] for each in await listed(variables)] == three


async def test_a_long_queue_keeps_its_order_when_it_is_looked_at(
    variables: dict[str, str], bench: Bench, topology: Topology
) -> None:
    names = [f"ntf_{number}" for number in range(120)]
    for name in names:
        await put(bench, topology, Message(b"1", {"notification": name}))
    assert len(await listed(variables, "--limit", "100")) == 100
    await notifier(variables, "poison", "discard", "ntf_7", "--yes")
    names.remove("ntf_7")
    for _ in range(2):
        assert [each["id"] for each in await listed(variables, "--limit", "200")] == names


async def test_what_is_more_than_one_consumer_may_hold_is_taken_by_several_and_keeps_its_order(
    broker: Any, bench: Bench, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poison_queue, "_MOST", 4)
    names = [f"ntf_{number}" for number in range(18)]
    for name in names:
        await put(bench, topology, Message(b"1", {"notification": name}))
    async with looking([broker.url], "test", 10) as look:
        for _ in range(3):
            async with poison_queue.holding(look, topology) as held:
                assert [taken.poisoned.id async for taken in held.each()] == names
        async with poison_queue.holding(look, topology) as held:
            async for taken in held.each():
                await held.remove(taken)
    assert await bench.ready(topology.poison) == 0


async def test_a_look_ends_when_somebody_else_took_what_was_counted(
    broker: Any, bench: Bench, topology: Topology
) -> None:
    for name in ("ntf_a", "ntf_b"):
        await put(bench, topology, Message(b"1", {"notification": name}))
    async with looking([broker.url], "test", 10) as look, poison_queue.holding(look, topology) as held:
        await bench.take(topology.poison)
        assert [taken.poisoned.id async for taken in held.each()] == ["ntf_b"]


async def test_the_list_says_since_when_where_from_and_why(variables: dict[str, str], three: list[str]) -> None:
    first = (await listed(variables))[0]
    assert first.pop("since").startswith("20")
    assert len(first.pop("message_id")) == 32
    assert first == {"id": "ntf_a", "tier": "5s", "merchant": "m", "reason": REASON, "bytes": 14}
    code, out, _ = await notifier(variables, "poison", "list", "--limit", "2")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["ID", "ntf_a", "ntf_b"]
    assert REASON in out
    assert "2 shown; 1 more" in out


async def test_a_message_is_shown_whole(variables: dict[str, str], bench: Bench, topology: Topology) -> None:
    message = Message('{"name":"Zoë"}'.encode(), {"notification": "ntf_z", "merchant": "m", "tenant": 7})
    await put(bench, topology, message)
    code, out, _ = await notifier(variables, "poison", "show", "ntf_z")
    assert code == 0
    assert REASON in out
    assert "header tenant" in out
    assert out.endswith('{"name":"Zoë"}\n')
    _, out, _ = await notifier(variables, "poison", "show", "ntf_z", "--json")
    shown = json.loads(out)
    assert shown["payload"] == '{"name":"Zoë"}'
    assert shown["headers"]["tenant"] == 7
    assert shown["content_type"] == "application/json"


async def test_a_payload_that_is_no_text_is_shown_as_hex_and_escapes_for_the_terminal_are_not_obeyed(
    variables: dict[str, str], bench: Bench, topology: Topology
) -> None:
    await bench.publish("", topology.poison, b"\xff\x00binary", message_id="m1")
    await bench.publish("", topology.poison, b"text \x1b[31m", {"merchant": "evil\x1b]0;x\x07"}, message_id="m2")
    _, out, _ = await notifier(variables, "poison", "show", "m1")
    assert "00000000  ff 00 62 69 6e 61 72 79" in out
    assert "put here by other means" in out
    _, out, _ = await notifier(variables, "poison", "show", "m1", "--json")
    assert json.loads(out)["payload_hex"] == b"\xff\x00binary".hex()
    for command in (["show", "m2"], ["list"]):
        _, out, _ = await notifier(variables, "poison", *command)
        assert "evil\\x1b]0;x\\x07" in out
        assert "\x1b" not in out
        assert "\x07" not in out


async def test_what_is_requeued_is_worked_in_the_tier_it_came_from_as_it_was(
    variables: dict[str, str], bench: Bench, topology: Topology, three: list[str]
) -> None:
    code, out, _ = await notifier(variables, "poison", "requeue", "ntf_c", "ntf_a")
    assert (code, out.split()) == (0, ["ntf_a", "ntf_c"])
    back = await bench.take(topology.work_queue(Tier(5)), 2)
    assert [message.headers["notification"] for message in back] == ["ntf_a", "ntf_c"]
    assert back[0].body == b'{"of":"ntf_a"}'
    assert {"notification", "merchant", "step", "x-delivery-count"} >= back[0].headers.keys()
    assert [each["id"] for each in await listed(variables)] == ["ntf_b"]


async def test_a_tier_that_is_configured_no_longer_is_replaced_by_the_one_that_covers_it(
    variables: dict[str, str], bench: Bench, topology: Topology
) -> None:
    await put(bench, topology, Message(b"1", {"notification": "short"}), Tier(3))
    await put(bench, topology, Message(b"2", {"notification": "long"}), Tier(3600))
    code, out, _ = await notifier(variables, "poison", "requeue", "--all")
    assert (code, out.split()) == (0, ["short", "long"])
    back = await bench.take(topology.work_queue(Tier(5)), 2)
    assert [message.body for message in back] == [b"1", b"2"]


async def test_what_the_broker_gave_up_on_is_told_and_goes_back_where_it_came_from(
    broker: Any, variables: dict[str, str], bench: Bench, topology: Topology
) -> None:
    await bench.publish(topology.work, "0s", b"{}", {"notification": "killer", "merchant": "m"}, message_id="k1")
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.get_queue(topology.work_queue(Tier(0)), ensure=False)
        async with queue.iterator(timeout=20) as deliveries:
            times = 0
            async for delivery in deliveries:
                await delivery.reject(requeue=True)
                times += 1
                if times > WORK_DELIVERY_LIMIT:
                    break
    # Dead-lettering is at least once and takes a moment.
    (message,) = await bench.take(topology.poison)
    await bench.publish("", topology.poison, message.body, message.headers, message_id="k1")
    (found,) = await listed(variables)
    assert (found["id"], found["tier"], found["merchant"]) == ("killer", "0s", "m")
    assert "RabbitMQ gave up on it" in found["reason"]
    assert found["since"] is not None
    code, _, _ = await notifier(variables, "poison", "requeue", "killer")
    assert code == 0
    (back,) = await bench.take(topology.work_queue(Tier(0)))
    assert {name for name in back.headers if "death" in name} == set()


async def test_what_is_discarded_is_gone_and_the_others_stay(variables: dict[str, str], three: list[str]) -> None:
    code, out, _ = await notifier(variables, "poison", "discard", "ntf_b", "--yes")
    assert (code, out) == (0, "ntf_b\n")
    assert [each["id"] for each in await listed(variables)] == ["ntf_a", "ntf_c"]
    code, out, _ = await notifier(variables, "poison", "discard", "--all", "--yes")
    assert (code, out.split()) == (0, ["ntf_a", "ntf_c"])
    assert await listed(variables) == []


async def test_without_a_terminal_nothing_is_discarded_unless_it_is_meant(
    variables: dict[str, str], three: list[str]
) -> None:
    for chosen in (["ntf_a"], ["--all"]):
        code, out, err = await notifier(variables, "poison", "discard", *chosen)
        assert (code, out) == (2, "")
        assert "add --yes to mean it" in err
    assert [each["id"] for each in await listed(variables)] == three


@pytest.mark.parametrize("command", ["requeue", "discard"])
async def test_unless_every_id_is_found_nothing_is_done(
    variables: dict[str, str], three: list[str], command: str
) -> None:
    options = ["--yes"] if command == "discard" else []
    code, out, err = await notifier(variables, "poison", command, "ntf_a", "ntf_x", *options)
    assert (code, out) == (1, "")
    assert "ntf_x is not on the poison queue" in err
    assert [each["id"] for each in await listed(variables)] == three


async def test_an_id_that_is_there_twice_can_be_told_apart_by_message_id(
    variables: dict[str, str], bench: Bench, topology: Topology, three: list[str]
) -> None:
    await put(bench, topology, Message(b"again", {"notification": "ntf_a", "merchant": "m"}))
    found = await listed(variables)
    code, out, err = await notifier(variables, "poison", "discard", "ntf_a", "--yes")
    assert (code, out) == (1, "")
    assert (
        f"ntf_a is there 2 times; name one by its message_id: {found[0]['message_id']}, {found[3]['message_id']}" in err
    )
    code, out, _ = await notifier(variables, "poison", "discard", found[0]["message_id"], "--yes")
    assert (code, out) == (0, "ntf_a\n")
    assert [each["message_id"] for each in await listed(variables)] == [each["message_id"] for each in found[1:]]


@pytest.mark.parametrize("arguments", [["requeue"], ["discard", "--yes"], ["requeue", "ntf_a", "--all"]])
async def test_one_must_say_which(variables: dict[str, str], arguments: list[str]) -> None:
    code, _, err = await notifier(variables, "poison", *arguments)
    assert code == 2
    assert "name the messages, or choose --all" in err


async def test_of_nothing_nothing_is_requeued(variables: dict[str, str], topology: Topology) -> None:
    code, out, err = await notifier(variables, "poison", "requeue", "--all")
    assert (code, out) == (0, "")
    assert "the poison queue is empty" in err
