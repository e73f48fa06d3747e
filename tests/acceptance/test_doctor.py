"""`notifier doctor`: every check, a remedy for whatever is not ok, and nothing changed on the broker."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.exceptions import AMQPError

from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from tests.acceptance.service import NOTIFIER, environment, notifier
from tests.integration.amqp.queues import Bench

CHECKS = [
    "settings",
    "secret",
    "callback",
    "egress",
    "files",
    "broker",
    "delay",
    "clock",
    "topology",
    "database",
    "agent",
]
#: Without a broker there are no others.
WITHOUT_BROKER = [check for check in CHECKS if check not in ("delay", "clock", "topology")]


@pytest.fixture
def variables(broker: Any, namespace: str) -> dict[str, str]:
    return environment(broker.url, namespace, NOTIFIER_LADDER="0s,5s") | {"NOTIFIER_EGRESS__ALLOW": ""}


@pytest.fixture
async def bench(broker: Any) -> AsyncIterator[Bench]:
    async with Bench.at(broker.url) as bench:
        yield bench


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as closed:  # bound, but not listening
        closed.bind(("127.0.0.1", 0))
        yield closed.getsockname()[1]


async def examined(variables: dict[str, str]) -> tuple[int, list[dict[str, Any]]]:
    code, out, err = await notifier(variables, "doctor", "--json")
    assert err == ""
    return code, json.loads(out)


def of(findings: list[dict[str, Any]], check: str) -> dict[str, Any]:
    (found,) = [finding for finding in findings if finding["check"] == check]
    return found


@pytest.mark.alone  # a probe that comes late is no fault of the doctor's
async def test_where_all_is_well_every_check_says_so(variables: dict[str, str], namespace: str) -> None:
    code, findings = await examined(variables)
    assert [finding["check"] for finding in findings] == CHECKS
    assert {finding["level"] for finding in findings} == {"ok"}
    assert code == 0
    assert re.search(r"RabbitMQ \d+\.\d+", of(findings, "broker")["said"])
    assert re.search(r"a probe of 300 ms came \d+ ms after it was due", of(findings, "delay")["said"])
    assert "the broker's agrees to the second" in of(findings, "clock")["said"]


async def test_nothing_of_the_namespace_is_made_by_looking(variables: dict[str, str]) -> None:
    for _ in range(2):
        _, findings = await examined(variables)
        assert of(findings, "topology")["said"] == "0 of 10 objects stand; run and enqueue declare the others"


@pytest.mark.alone  # a probe that comes late is no fault of the doctor's
async def test_the_report_for_people_ends_with_what_to_do(variables: dict[str, str]) -> None:
    code, out, err = await notifier(variables, "doctor")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[: len(CHECKS)]] == [["✓", check] for check in CHECKS]
    assert out.endswith("all is well: notifier run\n")
    del variables["NOTIFIER_SIGNING_SECRET"]
    code, out, _ = await notifier(variables, "doctor")
    assert code == 1
    assert "→ export NOTIFIER_SIGNING_SECRET=whsec_" in out
    assert out.endswith("1 to mend before `notifier run` works\n")


async def test_everything_but_ok_has_a_remedy_and_warnings_are_no_failure(variables: dict[str, str]) -> None:
    variables["NOTIFIER_EGRESS__ALLOW"] = "127.0.0.0/8"
    code, findings = await examined(variables)
    assert code == 0
    assert of(findings, "egress")["level"] == "warn"
    variables["NOTIFIER_CALLBACK"] = "nowhere:function"
    code, findings = await examined(variables)
    assert code == 1
    assert of(findings, "callback")["level"] == "fail"
    assert all(finding["remedy"] for finding in findings if finding["level"] != "ok")


async def test_settings_that_cannot_be_read_are_told_each(variables: dict[str, str]) -> None:
    variables |= {"NOTIFIER_SIGNING_SECRET": "whsec_short", "NOTIFIER_ACK": "maybe"}
    code, findings = await examined(variables)
    assert code == 1
    assert {finding["check"] for finding in findings} == {"settings"}
    variables |= {"NOTIFIER_LADER": "1s"}
    _, findings = await examined(variables)
    assert any("NOTIFIER_LADER" in finding["said"] for finding in findings)


async def test_without_a_broker_named_both_ways_to_one_are_told(variables: dict[str, str]) -> None:
    del variables["NOTIFIER_AMQP_URL"]
    code, findings = await examined(variables)
    assert code == 1
    assert [finding["check"] for finding in findings] == WITHOUT_BROKER
    remedy = of(findings, "broker")["remedy"]
    assert "export NOTIFIER_AMQP_URL=amqp://" in remedy
    assert "make broker" in remedy


@pytest.mark.alone  # a probe that comes late is no fault of the doctor's
async def test_a_broker_that_is_down_fails_and_one_address_of_several_warns(
    broker: Any, variables: dict[str, str], closed_port: int
) -> None:
    down = f"amqp://u:hidden@127.0.0.1:{closed_port}/"
    code, findings = await examined(variables | {"NOTIFIER_AMQP_URL": down})
    assert code == 1
    assert of(findings, "broker")["level"] == "fail"
    assert f"amqp://u:***@127.0.0.1:{closed_port}/" in of(findings, "broker")["said"]
    code, findings = await examined(variables | {"NOTIFIER_AMQP_URL": f"{down},{broker.url}"})
    assert code == 0
    addresses = [finding for finding in findings if finding["check"] == "broker"]
    assert [finding["level"] for finding in addresses] == ["warn", "ok"]
    assert of(findings, "delay")["level"] == "ok"
    assert "hidden" not in json.dumps(findings)


async def test_credentials_that_are_refused_fail_even_beside_others(broker: Any, variables: dict[str, str]) -> None:
    parts = urlsplit(broker.url)
    refused = f"amqp://nobody:hidden@{parts.hostname}:{parts.port}/"
    code, findings = await examined(variables | {"NOTIFIER_AMQP_URL": f"{broker.url},{refused}"})
    assert code == 1
    addresses = [finding for finding in findings if finding["check"] == "broker"]
    assert [finding["level"] for finding in addresses] == ["ok", "fail"]
    assert "refuses the user name or password" in addresses[1]["said"]


async def test_an_object_with_other_arguments_fails(bench: Bench, variables: dict[str, str], namespace: str) -> None:
    (wait,) = [queue for queue in Topology(namespace, (Tier(5),)).queues if queue.name == f"{namespace}.wait.5s"]
    await bench.queue(wait.name, **{**wait.arguments, "x-message-ttl": 7000})
    code, findings = await examined(variables)
    assert code == 1
    found = of(findings, "topology")
    assert found["level"] == "fail"
    assert "notifier's is 5000, the broker's is 7000" in found["said"]


async def test_poison_is_worth_a_warning(bench: Bench, variables: dict[str, str], namespace: str) -> None:
    await notifier(variables, "enqueue", "--merchant", "m", "--url", "http://127.0.0.1:9/", "--payload", "1")
    await bench.publish("", f"{namespace}.poison", b"?")
    code, findings = await examined(variables)
    assert code == 0
    assert of(findings, "poison") == {
        "check": "poison",
        "level": "warn",
        "said": f"1 message on {namespace}.poison could not be worked",
        "remedy": "notifier poison list",
    }


def test_too_few_open_files_for_the_prefetch_fail(variables: dict[str, str]) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    done = subprocess.run(
        [NOTIFIER, "doctor", "--json"], env=variables, preexec_fn=few, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    found = of(json.loads(done.stdout), "files")
    assert found["level"] == "fail"
    assert "only 256 open files" in found["said"]
    assert "NOTIFIER_PREFETCH=192" in found["remedy"]


@pytest.mark.plugin
async def test_the_plugins_delay_is_tried_where_it_is_chosen(variables: dict[str, str]) -> None:
    code, findings = await examined(variables | {"NOTIFIER_DELAY": "plugin"})
    assert code == 0
    assert "plugin delay works" in of(findings, "delay")["said"]


async def test_a_broker_without_the_plugin_fails_where_it_is_chosen(
    broker: Any, variables: dict[str, str], namespace: str
) -> None:
    code, findings = await examined(variables | {"NOTIFIER_DELAY": "plugin"})
    found = of(findings, "delay")
    if await offers_the_plugin(broker.url, f"{namespace}.delayed"):
        assert (code, found["level"]) == (0, "ok")
    else:
        assert (code, found["level"]) == (1, "fail")
        assert "unknown exchange type 'x-delayed-message'" in found["said"]
        assert "NOTIFIER_DELAY=native" in found["remedy"]


async def offers_the_plugin(url: str, name: str) -> bool:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        try:
            await channel.declare_exchange(name, "x-delayed-message", arguments={"x-delayed-type": "direct"})
        except AMQPError:
            return False
    return True


def test_it_says_what_is_missing_on_a_machine_where_nothing_is_set(tmp_path: os.PathLike[str]) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    done = subprocess.run(
        [NOTIFIER, "doctor"], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "2 to mend before `notifier run` works" in done.stdout
