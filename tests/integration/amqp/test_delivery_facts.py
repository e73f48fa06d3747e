"""What the ledger queue is told, as DESIGN §3 fixes it: by the room, by the entrance, over broken lines."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy import Proxy
from publishing import publishing
from queues import Bench
from room import Scripted, at_work

from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.domain.fact import Fact, Kind
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier
from notifier.settings import Settings

BODY = b'{"order":42}'
SETTINGS = Settings.received({"ladder": "0s,1s,5s"})


@asynccontextmanager
async def recording(url: str, topology: Topology) -> AsyncIterator[Recorder]:
    async with publishing(url, topology) as publisher:
        recorder = Recorder(publisher, topology)
        yield recorder
        await recorder.close()


def fact(number: int) -> Fact:
    return Fact(Kind.ACCEPTED, f"n{number}", 0, number)


async def test_every_fact_of_a_ladder_is_told_with_an_id_of_its_own(broker, topology: Topology, bench: Bench) -> None:
    outcome = Outcome(
        False,
        status=500,
        error=ErrorClass.STATUS,
        detail="500",
        address="127.0.0.1:80",
        answer=b"\xff no",
        duration=0.25,
        sent_headers=(("webhook-id", "n1"),),
    )
    async with at_work(broker.url, topology, Scripted(outcome, Outcome.ok("200", status=200))) as stage:
        headers = {"merchant": "m1", "notification": "n1", "ladder": "0s,0s", "run": 2, "shop": "no. 7"}
        await bench.publish(topology.work, "0s", BODY, headers, message_id="id-1")
        await stage.settled(2)
        first, second, completed = await bench.facts(topology.ledger, 3)
    assert [first["kind"], second["kind"], completed["kind"]] == ["attempted", "attempted", "completed"]
    for each in (first, second, completed):
        assert (each["v"], each["notification"], each["run"]) == (1, "n1", 2)
        uuid.UUID(each["id"])
        assert isinstance(each["at"], int)
    assert len({each["id"] for each in (first, second, completed)}) == 3
    assert uuid.UUID(first["attempt"]) != uuid.UUID(second["attempt"])
    # the first attempt of a run and every end carry payload and headers, others do not
    for each in (first, completed):
        assert base64.b64decode(each["payload"]) == BODY
        assert (each["headers"]["merchant"], each["headers"]["shop"]) == ("m1", "no. 7")
    assert "payload" not in second
    attempt = {name: first[name] for name in ("number", "step", "tier", "status", "error", "address", "next_tier")}
    assert attempt == {
        "number": 1,
        "step": 0,
        "tier": "0s",
        "status": 500,
        "error": "status",
        "address": "127.0.0.1:80",
        "next_tier": "0s",
    }
    assert (first["duration_ms"], base64.b64decode(first["answer"])) == (250, b"\xff no")
    assert first["sent_headers"] == {"webhook-id": "n1"}


async def test_a_ledger_message_is_a_json_array_that_says_its_version(broker, topology, bench: Bench) -> None:
    async with recording(broker.url, topology) as recorder:
        await recorder.record(fact(1), fact(2))
    (message,) = await bench.take_raw(topology.ledger)
    assert (message.content_type, message.headers["v"], message.delivery_mode) == ("application/json", 1, 2)
    assert [each["notification"] for each in json.loads(message.body)] == ["n1", "n2"]


async def test_a_thousand_records_make_far_fewer_messages(broker, topology: Topology, bench: Bench) -> None:
    async with recording(broker.url, topology) as recorder, asyncio.timeout(20):

        async def one_after_the_other(start: int) -> None:
            for number in range(start, start + 20):
                await recorder.record(fact(number))

        await asyncio.gather(*(one_after_the_other(start) for start in range(0, 1000, 20)))
        messages = await bench.ready(topology.ledger)
    assert messages <= 100
    told = [each for message in await bench.take(topology.ledger, messages) for each in json.loads(message.body)]
    assert sorted(each["at"] for each in told) == list(range(1000))


async def test_a_recorder_survives_cuts_and_tells_everything(broker, topology: Topology, bench: Bench) -> None:
    async with Proxy(broker.url) as proxy, recording(proxy.url, topology) as recorder, asyncio.timeout(20):
        records = []
        for cut in range(3):
            records += [asyncio.create_task(recorder.record(fact(cut * 100 + number))) for number in range(100)]
            await proxy.asked(1)
            proxy.cut()
        await asyncio.gather(*records)
    messages = await bench.take(topology.ledger, await bench.ready(topology.ledger))
    told = [each for message in messages for each in json.loads(message.body)]
    assert {each["at"] for each in told} == set(range(300))
    by_id = {each["id"]: each for each in told}
    assert len(by_id) == 300  # what came twice came with the same id


async def test_large_payloads_travel_in_several_messages(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(Outcome.ok()), most_payload=300_000) as stage:
        stage.callback.gate.clear()
        for number in range(12):
            await bench.publish(topology.work, "0s", b"x" * 200_000, {"merchant": "m1"}, message_id=f"n{number}")
        await stage.callback.called(12)
        stage.callback.gate.set()
        await stage.drained()
        messages = await bench.take(topology.ledger, await bench.ready(topology.ledger))
    assert max(len(message.body) for message in messages) < 2 * 1_048_576
    assert sum(len(json.loads(message.body)) for message in messages) == 24


async def test_the_entrance_accepts_after_the_confirm_and_the_first_room_gets_what_was_stated(
    broker, topology: Topology, bench: Bench
) -> None:
    callback = Scripted(Outcome.ok())
    async with (
        at_work(broker.url, topology, callback) as stage,
        publishing(broker.url, topology) as publisher,
    ):
        recorder = Recorder(publisher, topology)
        entrance = Entrance(topology, publisher, recorder)
        accepted = await entrance.accept(
            compose(SETTINGS, merchant="m1", payload=BODY, url="https://shop.example/", reference="order 42")
        )
        (worked,) = await stage.settled()
        await entrance.flush()
        await recorder.close()
        kinds = sorted(each["kind"] for each in await bench.facts(topology.ledger, 3))
    assert worked == accepted
    assert kinds == ["accepted", "attempted", "completed"]


async def test_hundreds_are_accepted_at_once_over_a_line_that_is_cut(broker, topology: Topology, bench: Bench) -> None:
    async with Proxy(broker.url) as proxy, publishing(proxy.url, topology) as publisher, asyncio.timeout(20):
        recorder = Recorder(publisher, topology)
        entrance = Entrance(topology, publisher, recorder)
        stated = [compose(SETTINGS, merchant="m1", payload=BODY) for _ in range(300)]
        accepting = [asyncio.create_task(entrance.accept(each)) for each in stated]
        await proxy.asked(50_000)
        proxy.cut()
        await asyncio.gather(*accepting)
        await entrance.flush()
        await recorder.close()
    work = topology.work_queue(Tier(0))
    arrived = await bench.take(work, await bench.ready(work))
    assert {each.headers["notification"] for each in arrived} == {each.id for each in stated}
