"""`notifier topology show`: what stands on the broker, without a change to it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest

from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from tests.acceptance.service import environment, notifier
from tests.integration.amqp.queues import Bench

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def variables(broker: Any, namespace: str) -> dict[str, str]:
    return environment(broker.url, namespace, NOTIFIER_LADDER="0s,5s")


@pytest.fixture
async def bench(broker: Any) -> AsyncIterator[Bench]:
    async with Bench.at(broker.url) as bench:
        yield bench


async def shown(variables: dict[str, str]) -> tuple[int, dict[str, Any]]:
    code, out, err = await notifier(variables, "topology", "show", "--json")
    assert err == ""
    return code, json.loads(out)


async def test_before_anything_was_declared_all_is_missing_and_stays_so(
    broker: Any, variables: dict[str, str], namespace: str
) -> None:
    for _ in range(2):  # the first look must not have made anything
        code, topology = await shown(variables)
        assert code == 0
        assert [each["name"] for each in topology["exchanges"]] == [
            f"{namespace}.{name}" for name in ("work", "wait", "control", "recorded", "record")
        ]
        assert [each["name"] for each in topology["queues"]] == [
            f"{namespace}.{name}" for name in ("poison", "ledger", "work.0s", "work.5s", "wait.5s")
        ]
        for each in topology["exchanges"] + topology["queues"]:
            assert (each["exists"], each["difference"]) == (False, None)
        assert all((each["ready"], each["consumers"]) == (None, None) for each in topology["queues"])


async def test_what_stands_is_shown_with_kind_arguments_messages_and_consumers(
    broker: Any, variables: dict[str, str], namespace: str
) -> None:
    for _ in range(2):
        await notifier(variables, "enqueue", "--merchant", "m", "--url", URL, "--payload", "1")
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(f"{namespace}.work.5s", ensure=False)
        await queue.iterator().consume()
        code, topology = await shown(variables)
    assert code == 0
    assert (topology["namespace"], topology["delay"], topology["tiers"]) == (namespace, "native", ["0s", "5s"])
    queues = {each.pop("name").removeprefix(f"{namespace}."): each for each in topology["queues"]}
    assert queues["work.0s"]["ready"] == 2
    assert (queues["work.5s"]["ready"], queues["work.5s"]["consumers"]) == (0, 1)
    assert queues["wait.5s"] == {
        "kind": "quorum",
        "arguments": {
            "x-message-ttl": 5000,
            "x-dead-letter-exchange": f"{namespace}.work",
            "x-dead-letter-routing-key": "5s",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
        "exists": True,
        "difference": None,
        "ready": 0,
        "consumers": 0,
    }
    bound = {(each["source"], each["destination"], each["routing_key"]) for each in topology["bindings"]}
    assert (f"{namespace}.wait", f"{namespace}.wait.5s", "5s") in bound


async def test_the_table_for_people_holds_every_object(variables: dict[str, str], namespace: str) -> None:
    _, missing, _ = await notifier(variables, "topology", "show")
    assert "10 of 10 missing: notifier run or enqueue declares them" in missing
    await notifier(variables, "enqueue", "--merchant", "m", "--url", URL, "--payload", "1")
    code, out, _ = await notifier(variables, "topology", "show")
    assert code == 0
    rows = {line.split()[0]: line.split()[1:4] for line in out.splitlines() if line.startswith(f"{namespace}.")}
    assert rows[f"{namespace}.work.0s"] == ["there", "1", "0"]
    assert rows[f"{namespace}.control"] == ["there", "fanout"]
    assert len(rows) == 10
    assert "all 10 stand as they should" in out


async def test_an_object_with_other_arguments_is_named_with_both_values(
    bench: Bench, variables: dict[str, str], namespace: str
) -> None:
    (wait,) = [queue for queue in Topology(namespace, (Tier(5),)).queues if queue.name == f"{namespace}.wait.5s"]
    await bench.queue(wait.name, **{**wait.arguments, "x-message-ttl": 7000})
    await bench.exchange(f"{namespace}.control", "direct")
    code, topology = await shown(variables)
    await bench.delete_exchange(f"{namespace}.control")
    assert code == 1
    differing = {each["name"]: each["difference"] for each in topology["queues"] + topology["exchanges"]}
    ttl = differing.pop(f"{namespace}.wait.5s")
    assert f"queue {namespace}.wait.5s stands on the broker with another x-message-ttl" in ttl
    assert "notifier's is 5000, the broker's is 7000" in ttl
    kind = differing.pop(f"{namespace}.control")
    assert f"exchange {namespace}.control stands on the broker with another type" in kind
    assert set(differing.values()) == {None}
    code, out, _ = await notifier(variables, "topology", "show")
    assert code == 1
    assert "notifier's is 5000, the broker's is 7000" in out


@pytest.mark.plugin
async def test_the_plugins_exchange_belongs_to_the_plugins_mode(variables: dict[str, str], namespace: str) -> None:
    variables["NOTIFIER_DELAY"] = "plugin"
    await notifier(variables, "enqueue", "--merchant", "m", "--url", URL, "--payload", "1")
    code, topology = await shown(variables)
    assert code == 0
    (delayed,) = [each for each in topology["exchanges"] if each["name"] == f"{namespace}.delayed"]
    assert (delayed["kind"], delayed["exists"]) == ("x-delayed-message", True)


async def test_without_a_broker_named_both_ways_to_one_are_told() -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    code, out, err = await notifier(variables, "topology", "show")
    assert (code, out) == (78, "")
    assert "export NOTIFIER_AMQP_URL=amqp://" in err
    assert "make broker" in err
