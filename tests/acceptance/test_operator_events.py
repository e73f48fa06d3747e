"""Operator events of a real service: signed, in the ledger like any other, counted, and never about themselves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from notifier.domain.notification import OPERATIONS
from notifier.domain.signature import Secret
from notifier.simulator.received import Received, SignatureState
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from notifier.supervision import restart
from tests.acceptance.control import Producer, operator_of, until_keys
from tests.acceptance.ledger import Ledger, ask_agent
from tests.acceptance.service import SECRET, environment, notifier, running


def events(received: Sequence[Received]) -> dict[str, dict[str, Any]]:
    """The first of each type."""
    found: dict[str, dict[str, Any]] = {}
    for request in received:
        body = json.loads(request.body)
        found.setdefault(body["type"], body)
    return found


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.long)], ids=["", "with a new agent"])
async def test_operators_are_told_of_what_goes_wrong_and_never_of_what_becomes_of_that(
    broker, namespace, again: bool
) -> None:
    """The operators' own address acknowledges nothing: its notifications are exhausted, and that is no event."""
    async with (
        Simulator(default=Script.parse("500"), secrets=[Secret.parse(SECRET)]) as office,
        Simulator({"/gone": Script.parse("410")}, default=Script.parse("500")) as shops,
    ):
        variables = environment(
            broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_BREAKER__ATTEMPTS="6", NOTIFIER_MACHINE="vm-1",
            NOTIFIER_OPERATIONS__URL=f"{office.url}/ops", NOTIFIER_OPERATIONS__INTERVAL="3",
            NOTIFIER_OPERATIONS__LATE="0.0001", NOTIFIER_OPERATIONS__LATE_FOR="0",
        )  # fmt: skip
        async with (
            running(variables, "--no-api", whole=True) as service,
            operator_of(variables) as operator,
            Producer(variables) as producer,
        ):
            fields = {"url": f"{shops.url}/gone"}
            await ask_agent(operator, "merchants.change", op="add", merchant="gone", who="test", fields=fields)
            await producer.send_without_url("gone", 1)
            failed = await producer.send(["fails"], shops.url, 6)
            four = {"merchant.disabled", "breaker.open", "notification.exhausted", "tier.late"}
            await office.wait_for(lambda received: set(events(received)) >= four, timeout=40)

            told = events(office.received)
            assert all(request.signature is SignatureState.VALID for request in office.received)
            assert all(request.webhook_id == json.loads(request.body)["id"] for request in office.received)
            (disabled,) = told["merchant.disabled"]["data"]["examples"]
            assert (disabled["merchant"], disabled["who"]) == ("gone", "notifier")
            assert told["merchant.disabled"]["data"]["sentence"].endswith("notifier merchants enable gone")
            (opened,) = told["breaker.open"]["data"]["examples"]
            assert (opened["merchant"], opened["failed"], opened["of"]) == ("fails", 6, 6)
            exhausted = told["notification.exhausted"]["data"]
            assert (exhausted["count"], exhausted["machine"]) == (6, "vm-1")
            assert {each["notification"] for each in exhausted["examples"]} == set(failed)
            (late,) = told["tier.late"]["data"]["examples"]
            assert late["tier"] == "1s"
            (key,) = await until_keys(operator, "told/", 1)
            assert key["key"] == "told/tier.late/1s"

            # they are in the ledger like any other, and used up their ladders: which is told to nobody
            ledger = Ledger(variables)
            over = "SELECT count(*) FROM notifications WHERE merchant = ? AND status = 'exhausted'"
            await ledger.until(lambda: ledger.count(over, OPERATIONS) >= len(four), "events in the ledger")
            await producer.send(["another"], shops.url, 1)
            await office.wait_for(
                lambda received: any("another" in request.body.decode() for request in received), timeout=40
            )
            bodies = [request.body.decode() for request in office.received]
            assert not any(OPERATIONS in body for body in bodies)
            assert len({request.webhook_id for request in office.received}) == len(bodies)
            assert sum(json.loads(body)["type"] == "tier.late" for body in bodies) == 1

            code, _, err = await notifier(
                variables, "enqueue", "--merchant", OPERATIONS, "--url", shops.url, "--payload", "{}"
            )
            assert code != 0
            assert "is the service's own name for its operator events" in err

            if not again:
                return
            # a new agent knows what was told
            count = len(office.received)
            await operator.ask("restart", {"to": "agent"}, timeout=60)
            await producer.send(["a-third"], shops.url, 1)
            await office.wait_for(
                lambda received: any("a-third" in request.body.decode() for request in received[count:]), timeout=40
            )
            fresh = [json.loads(request.body)["type"] for request in office.received[count:]]
            assert fresh == ["notification.exhausted"]
            assert await service.stop() == 0


@pytest.mark.long
async def test_operators_are_told_once_of_a_process_that_keeps_ending(broker, namespace) -> None:
    """What would go by that process waits; the event itself has a tier that serves it."""
    async with Simulator(secrets=[Secret.parse(SECRET)]) as office:
        variables = environment(
            broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_LADDERS__SLOW="2s", NOTIFIER_MACHINE="vm-1",
            NOTIFIER_OPERATIONS__URL=f"{office.url}/ops", NOTIFIER_OPERATIONS__INTERVAL="3",
            NOTIFIER_OPERATIONS__EVENTS="slot.degraded,merchant.disabled",
        )  # fmt: skip
        async with running(variables, "--no-api", whole=True) as service, operator_of(variables) as operator:
            for epoch in range(1, restart.BUDGET + 2):
                if epoch > 1:
                    await service.event("child.restarted", slot="tier:2s", epoch=epoch)
                os.kill(service.pid("2s"), signal.SIGKILL)
                await service.event("child.ended", slot="tier:2s", epoch=epoch)
            await service.event("child.degraded", slot="tier:2s")
            (request,) = await office.wait_for(1, timeout=60)
            assert request.signature is SignatureState.VALID
            told = json.loads(request.body)
            assert (told["type"], told["id"]) == ("slot.degraded", request.webhook_id)
            assert (told["data"]["machine"], told["data"]["count"]) == ("vm-1", 1)
            (example,) = told["data"]["examples"]
            assert (example["slot"], example["state"]) == ("tier:2s", "degraded")
            assert example["restarts"] >= restart.BUDGET
            assert "SIGKILL" in example["reason"]
            assert told["data"]["sentence"].startswith("process tier:2s keeps ending and is started again and again")
            (key,) = await until_keys(operator, "told/", 1)
            assert (key["key"], key["value"]["id"]) == ("told/slot.degraded/tier:2s", told["id"])

            # a new agent finds the same, knows that it was told, and tells only what is new
            await operator.ask("restart", {"to": "agent"}, timeout=60)
            fields = {"url": f"{office.url}/gone"}
            await ask_agent(operator, "merchants.change", op="add", merchant="gone", who="test", fields=fields)
            await ask_agent(operator, "merchants.change", op="disable", merchant="gone", who="test")
            await office.wait_for(lambda received: "merchant.disabled" in events(received), timeout=60)
            assert await service.stop() == 0
        assert sorted(json.loads(request.body)["type"] for request in office.received) == [
            "merchant.disabled",
            "slot.degraded",
        ]
