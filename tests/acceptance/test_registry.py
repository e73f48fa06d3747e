"""The registry in a running service: when tier processes begin, what they do with a merchant, and where secrets are."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.domain.signature import Secret, verify
from notifier.settings import load
from notifier.simulator.received import Received
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from notifier.supervision.operator import Operator
from tests.acceptance.control import operator_of, slot_of, until_slot
from tests.acceptance.ledger import agent_says, ask_agent
from tests.acceptance.service import NOTIFIER, SECRET, RunningService, environment, running

TIER = "tier:1s"
CREDENTIAL = "Bearer hunter2-hunter2-hunter2"


async def change(operator: Operator, op: str, merchant: str = "shop", **more: Any) -> dict[str, Any]:
    """What the agent answers to a change; its problem is an error here."""
    answer = await ask_agent(operator, "merchants.change", op=op, merchant=merchant, who="test", **more)
    return dict(answer)


@contextlib.asynccontextmanager
async def sending(variables: Mapping[str, str]) -> AsyncIterator[Any]:
    """`await send(merchant, url, …)`: hands in one notification and returns its id."""
    settings = load({}, environment=variables)
    topology = Topology(settings.namespace, settings.tiers)
    publisher = Publisher(settings.amqp_urls, topology)
    recorder = Recorder(publisher, topology)
    entrance = Entrance(topology, publisher, recorder)
    await publisher.start(10)

    async def send(merchant: str = "shop", **more: Any) -> str:
        return (await entrance.accept(compose(settings, merchant=merchant, payload=b"{}", **more))).id

    try:
        yield send
    finally:
        await entrance.flush()
        await recorder.close()
        await publisher.close()


def signed_by(received: Received) -> list[str]:
    """Which of its own secrets a merchant could verify the request with: each signature alone."""
    return received.headers["webhook-signature"].split(" ")


def verifies(received: Received, secret: str, signature: str) -> bool:
    try:
        verify(
            [Secret.parse(secret)],
            received.headers["webhook-id"],
            received.headers["webhook-timestamp"],
            signature,
            received.body,
            now=time.time(),
        )
    except ValueError:
        return False
    return True


def unusable_database(variables: dict[str, str]) -> Path:
    """The database's directory is a file, until that is removed."""
    blocker = Path(variables["NOTIFIER_STATE_DIR"]) / "database"
    blocker.write_text("")
    variables["NOTIFIER_DATABASE_URL"] = f"sqlite:///{blocker}/ledger.db"
    return blocker


@contextlib.asynccontextmanager
async def starting(variables: Mapping[str, str]) -> AsyncIterator[tuple[RunningService, Operator]]:
    """A service that may not be ready for long, and an operator of it."""
    process = await asyncio.create_subprocess_exec(
        NOTIFIER, "run", "--no-api", env=dict(variables), stderr=asyncio.subprocess.PIPE, limit=2**22
    )
    service = RunningService(process)
    try:
        await service.event("child.started", slot="agent")  # the socket is there before the first child
        async with operator_of(variables) as operator:
            yield service, operator
    finally:
        await service.stop()


async def until_note(operator: Operator, name: str) -> str:
    """What a slot that starts says it waits for."""
    async with asyncio.timeout(20):
        while True:
            if note := (await slot_of(operator, name))["note"]:
                return str(note)
            await asyncio.sleep(0.05)


async def until_registry(operator: Operator) -> dict[str, Any]:
    """How far the tier's heartbeat says that its registry is."""
    async with asyncio.timeout(20):
        while True:
            if found := (await until_slot(operator, TIER, state="ready"))["statistics"].get("registry"):
                return dict(found)
            await asyncio.sleep(0.05)


async def test_a_registered_merchant_is_called_at_its_url_with_its_headers_and_its_secrets(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    async with (
        Simulator() as merchant,
        running(variables, "--no-api", whole=True),
        operator_of(variables) as operator,
        sending(variables) as send,
    ):
        fields = {"url": f"{merchant.url}/hook", "headers": {"X-Shop": "7", "Authorization": CREDENTIAL}}
        added = await change(operator, "add", fields=fields)
        assert (added["live"]["live"], added["live"]["of"], added["live"]["missing"]) == (1, 1, [])
        await send()
        [first] = await merchant.wait_for(1)
        assert (first.path, first.headers["x-shop"], first.headers["authorization"]) == ("/hook", "7", CREDENTIAL)
        assert [verifies(first, added["secret"], each) for each in signed_by(first)] == [True]
        rotated = await change(operator, "rotate")
        await send()
        second = (await merchant.wait_for(2))[1]
        newest, oldest = signed_by(second)
        assert verifies(second, rotated["secret"], newest)
        assert verifies(second, added["secret"], oldest)
        await change(operator, "rotate", **{"for": 0})
        await send()
        third = (await merchant.wait_for(3))[2]
        assert len(signed_by(third)) == 1
        assert not any(verifies(third, secret["secret"], signed_by(third)[0]) for secret in (added, rotated))
        await send("stranger", url=f"{merchant.url}/stranger")
        fourth = (await merchant.wait_for(4))[3]
        assert verifies(fourth, SECRET, signed_by(fourth)[0])
        assert "x-shop" not in fourth.headers


@pytest.mark.long
async def test_after_the_answer_to_a_block_no_callback_starts_and_what_waits_is_held(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s")
    async with (
        Simulator(default=Script.parse("slow:0.3")) as merchant,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        sending(variables) as send,
    ):
        await change(operator, "add", fields={"url": f"{merchant.url}/hook"})
        sent = [await send() for _ in range(100)]
        await merchant.wait_for(10)
        blocked = await change(operator, "block", why="charged twice")
        answered = time.time() * 1000
        assert (blocked["live"]["live"], blocked["live"]["of"]) == (2, 2)
        waiting = set(sent) - {each.webhook_id for each in merchant.received}
        await asyncio.gather(
            *(service.event("held", notification=each, reason="blocked", why="charged twice") for each in waiting)
        )
        late = await send()
        await service.event("held", notification=late, reason="blocked")
        assert [each.ts for each in merchant.received if each.ts > answered] == []


@pytest.mark.long
async def test_a_cancelled_notification_is_stopped_without_an_attempt(broker: Any, namespace: str) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="3s")
    async with (
        Simulator() as merchant,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        sending(variables) as send,
    ):
        cancelled, other = [await send(url=f"{merchant.url}/hook") for _ in range(2)]
        data = {"id": cancelled, "who": "test", "why": "order was taken back"}
        async with asyncio.timeout(20):
            while "ok" not in await agent_says(operator, "notifications.cancel", **data):
                continue  # the ledger hears of it a moment after it was accepted
        stopped = await service.event("stopped", notification=cancelled)
        assert (stopped["reason"], stopped["why"]) == ("cancelled", "cancelled by test: order was taken back")
        await service.settled({other})
        assert [each.webhook_id for each in merchant.received] == [other]


async def test_no_tier_begins_before_there_is_a_registry_and_status_says_what_is_waited_for(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    blocker = unusable_database(variables)
    async with starting(variables) as (service, operator):
        agent = await until_slot(operator, "agent", state="ready")
        assert agent["statistics"]["database"] == "down"
        assert (await until_note(operator, TIER)).startswith("waiting for the registry")
        assert (await slot_of(operator, TIER))["state"] == "starting"
        blocker.unlink()
        await service.ready()
        names = [
            event["event"] for event in service.events if event["event"] == "database.up" or event.get("slot") == TIER
        ]
        assert names.index("database.up") < names.index("child.ready")
        assert await until_registry(operator) == {"version": 0, "stale_since": None}


@pytest.mark.long
async def test_with_the_database_down_tiers_begin_with_the_copy_and_say_since_when_it_is_stale(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    async with Simulator() as merchant:
        async with running(variables, "--no-api", whole=True), operator_of(variables) as operator:
            added = await change(operator, "add", fields={"url": f"{merchant.url}/hook"})
        unusable_database(variables)
        async with (
            running(variables, "--no-api", whole=True),
            operator_of(variables) as operator,
            sending(variables) as send,
        ):
            said = await until_registry(operator)
            assert said["version"] == 1
            assert said["stale_since"].startswith("20")
            await send()
            [received] = await merchant.wait_for(1)
            assert verifies(received, added["secret"], signed_by(received)[0])


@pytest.mark.long
async def test_what_an_earlier_service_said_does_not_let_a_tier_begin(broker: Any, namespace: str) -> None:
    """The master keeps the key; a merchant may have been blocked on another machine since."""
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s")
    async with running(variables, "--no-api", whole=True), operator_of(variables) as operator:
        await change(operator, "add", fields={"url": "http://127.0.0.1:9/"})
        entries = (await operator.ask("state", {"after": 0}))["entries"]
        [before] = [entry for entry in entries if entry["key"] == "registry"]
    (Path(variables["NOTIFIER_STATE_DIR"]) / "merchants.db").unlink()
    blocker = unusable_database(variables)
    async with starting(variables) as (service, operator):
        await until_slot(operator, "agent", state="ready")
        entries = (await operator.ask("state", {"after": 0}))["entries"]
        assert [entry["value"] for entry in entries if entry["key"] == "registry"] == [before["value"]]
        assert "the agent has not said yet" in await until_note(operator, TIER)
        blocker.unlink()
        await service.ready()


async def test_secrets_are_in_no_log_no_fact_no_heartbeat_no_state_and_no_answer_after_creation(
    broker: Any, namespace: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_LOG__LEVEL="debug")
    given = Secret.fresh().text
    seen: list[str] = []
    scripts = {"/hook": Script.parse("500,ok"), "/gone": Script.parse("410")}
    async with Simulator(scripts) as merchant:
        async with (
            running(variables, "--no-api", whole=True) as service,
            operator_of(variables) as operator,
            sending(variables) as send,
        ):
            fields = {"url": f"{merchant.url}/hook", "secret": given, "headers": {"Authorization": CREDENTIAL}}
            answer = await change(operator, "add", fields=fields)
            assert answer.pop("secret") == given
            seen.append(json.dumps(answer))
            rotated = await change(operator, "rotate")
            fresh = rotated.pop("secret")
            seen.append(json.dumps(rotated))
            for op, more in (
                ("set", {"fields": {"rate": 50, "ladder": "2s"}}),
                ("block", {"why": "test", "for": 60}),
                ("unblock", {}),
                ("disable", {"why": "test"}),
                ("enable", {}),
            ):
                seen.append(json.dumps(await change(operator, op, **more)))
            bad = {
                "to": "agent",
                "action": "merchants.change",
                "data": {"op": "add", "merchant": "x", "fields": fields},
            }
            bad["data"]["fields"] = fields | {"url": "no url", "headers": {"Authorization": CREDENTIAL + "\n"}}
            seen.append(json.dumps(await operator.ask("send", bad)))
            failing = await send(ladder="1s,2s")
            await service.event("attempt", notification=failing, status=500)
            await service.event("attempt", notification=failing, status=200)
            await change(operator, "set", fields={"url": f"{merchant.url}/gone"})
            await send(ladder="1s")
            await service.event("merchant.disabled", merchant="shop")
            seen.append(json.dumps(await operator.ask("status")))
            seen.append(json.dumps(await operator.ask("state", {"after": 0})))
            await operator.ask("stacks", {"to": "all"})
        seen += [json.dumps(event) for event in service.events] + service.lines
    state = Path(variables["NOTIFIER_STATE_DIR"])
    with contextlib.closing(sqlite3.connect(state / "ledger.db")) as ledger:
        tables = [name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in set(tables) - {"merchants"}:
            seen += [repr(row) for row in ledger.execute(f"SELECT * FROM {table}")]
        kept = repr(ledger.execute("SELECT body FROM merchants").fetchall())
    seen.append((state / "state.json").read_text())
    for hidden in (given, fresh, CREDENTIAL):
        assert hidden.removeprefix("whsec_") in kept  # it is looked for in the form in which it would be there
        for form in (hidden.removeprefix("whsec_"), base64.b64encode(hidden.encode()).decode().rstrip("=")):
            assert [text[:300] for text in seen if form in text] == []
    assert any("Authorization" in text for text in seen)  # the header is shown, its value is not
    for file in ("merchants.db", "ledger.db", "state.json"):
        assert (state / file).stat().st_mode & 0o077 == 0
