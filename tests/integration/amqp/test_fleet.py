"""Several machines and one real broker: who hears whom, who is believed, who is named as missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractConnection
from aiormq.exceptions import ChannelLockedResource, ChannelNotFoundEntity
from queues import Bench

from notifier.agent import fleet as fleets
from notifier.agent.fleet import Fleet
from notifier.agent.machines import EVERY
from notifier.agent.seal import FRESH, LONGEST, Seal
from notifier.broker.topology import Topology
from notifier.domain.signature import Secret
from notifier.errors import BrokerUnreachable, DatabaseUnavailable, InvalidInput
from notifier.settings import Settings

SECRET, NEXT, STRANGE = (Secret(bytes([number]) * 32) for number in (1, 2, 3))


class Station:
    """A machine of a test: its fleet, what it was asked, and what it answers."""

    def __init__(self, url: str, topology: Topology, name: str, *secrets: Secret) -> None:
        settings = Settings.model_validate(
            {
                "amqp_url": url,
                "namespace": topology.namespace,
                "machine": name,
                "signing_secret": ",".join(secret.text for secret in secrets or (SECRET,)),
            }
        )
        self.name = name
        self.state: dict[str, Any] = {"registry": 1, "slots": {"tier:1s": "ready"}}
        self.asked: list[tuple[Any, ...]] = []
        self.hangs = False
        self.error: Exception | None = None
        self.fleet = Fleet(settings, topology, lambda: self.state, self._registry, self._verb)

    async def _registry(self, version: int, critical: bool) -> Mapping[str, Any]:
        self.asked.append(("registry", version, critical))
        await self._trouble()
        return {"live": 3, "of": 4}

    async def _verb(self, verb: str, body: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        self.asked.append((verb, dict(body), timeout))
        await self._trouble()
        return {"said by": self.name}

    async def _trouble(self) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.error is not None:
            raise self.error

    def sees(self) -> list[str]:
        return [machine["machine"] for machine in self.fleet.machines()]


class Stations:
    """Machines that are started and stopped with the test."""

    def __init__(self, url: str, topology: Topology, stack: AsyncExitStack) -> None:
        self._url = url
        self._topology = topology
        self._stack = stack

    async def start(self, name: str, *secrets: Secret, topology: Topology | None = None) -> Station:
        station = Station(self._url, topology or self._topology, name, *secrets)
        self._stack.push_async_callback(station.fleet.close)
        await station.fleet.start()
        return station

    async def trio(self) -> list[Station]:
        """Three machines that know each other."""
        trio = [await self.start(name) for name in "abc"]
        await until(lambda: all(len(station.sees()) == 3 for station in trio))
        return trio


@pytest.fixture
async def stations(broker: Any, topology: Topology) -> AsyncIterator[Stations]:
    async with AsyncExitStack() as stack:
        yield Stations(broker.url, topology, stack)


async def until(true: Callable[[], object], timeout: float = 10) -> None:
    """What comes over the broker shows in the fleet without an event."""
    async with asyncio.timeout(timeout):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def say(bench: Bench, topology: Topology, said: bytes) -> None:
    await bench.publish(topology.control, "", said, mandatory=False)


@pytest.fixture
async def connection(broker: Any) -> AsyncIterator[AbstractConnection]:
    async with await aiormq.connect(broker.url) as connection:
        yield connection


async def test_machines_know_each_other_at_once_and_notice_who_leaves(stations: Stations) -> None:
    began = time.monotonic()
    a, b, c = await stations.trio()
    assert time.monotonic() - began < EVERY, "nobody waits for the next announcement"
    assert a.sees() == ["a", "b", "c"]
    assert b.sees() == ["b", "a", "c"], "the own one first"
    shown = b.fleet.machines()
    assert [(machine["here"], machine["twin"]) for machine in shown] == [(True, False), (False, False), (False, False)]
    assert all(machine["registry"] == 1 and machine["heard_s"] < 5 for machine in shown)
    await c.fleet.close()
    await c.fleet.close()
    await until(lambda: a.sees() == ["a", "b"] and b.sees() == ["b", "a"])


async def test_what_a_machine_says_about_itself_is_renewed_with_its_announcements(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "EVERY", 0.1)
    a, b, _ = await stations.trio()
    a.state = {"registry": 7}
    await until(lambda: b.fleet.machines()[1].get("registry") == 7)


async def test_a_change_is_live_on_the_other_machines_before_the_answer(stations: Stations) -> None:
    a, b, c = await stations.trio()
    answers = await a.fleet.changed(42, critical=True)
    assert sorted(answers, key=lambda answer: answer["machine"]) == [
        {"machine": "b", "live": 3, "of": 4},
        {"machine": "c", "live": 3, "of": 4},
    ]
    assert (a.asked, b.asked, c.asked) == ([], [("registry", 42, True)], [("registry", 42, True)])


async def test_what_is_told_to_the_others_is_done_by_all_of_them_and_nobody_waits_for_it(stations: Stations) -> None:
    a, b, c = await stations.trio()
    b.hangs = True
    body = {"key": "breaker/m1", "value": {"state": "open"}, "for": 60}
    await a.fleet.tell("push", body)
    await until(lambda: b.asked and c.asked)
    assert (a.asked, b.asked, c.asked) == ([], [("push", body, fleets.PATIENCE)], [("push", body, fleets.PATIENCE)])
    alone = Fleet(Settings(machine="alone"), Topology("alone", ()), dict, a._registry, a._verb)
    await alone.tell("push", body)


async def test_a_machine_that_has_just_come_up_waits_for_those_that_were_there_before(stations: Stations) -> None:
    a = await stations.start("a")
    b = await stations.start("b")
    assert await b.fleet.changed(42, critical=False) == [{"machine": "a", "live": 3, "of": 4}]
    assert a.asked == [("registry", 42, False)]


async def test_a_fault_in_what_a_machine_says_about_itself_does_not_make_it_vanish(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "EVERY", 0.05)
    a, b, _ = await stations.trio()
    a.state = {"registry": float("nan")}  # no JSON
    b.state = {"registry": 3}
    await until(lambda: a.fleet.machines()[1]["registry"] == 3)
    a.state = {"registry": 2}
    await until(lambda: b.fleet.machines()[1]["registry"] == 2)


async def test_who_does_not_answer_or_cannot_is_named(stations: Stations) -> None:
    a, b, c = await stations.trio()
    b.hangs = True
    c.error = DatabaseUnavailable("the database is away")
    began = time.monotonic()
    answers = await a.fleet.changed(42, critical=False, timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 10
    assert answers == [
        {"machine": "c", "error": "the database is away"},
        {"machine": "b", "error": "b did not answer in 0.5 s"},
    ]


async def test_nobody_waits_for_a_machine_that_leaves_meanwhile(stations: Stations) -> None:
    a, _b, c = await stations.trio()
    c.hangs = True
    asking = asyncio.create_task(a.fleet.changed(42, critical=False, timeout=60))
    await until(lambda: c.asked)
    await c.fleet.close()
    async with asyncio.timeout(5):
        assert await asking == [{"machine": "b", "live": 3, "of": 4}]


async def test_a_verb_is_asked_of_every_machine_this_one_included(stations: Stations) -> None:
    a, b, c = await stations.trio()
    b.error = InvalidInput("tell me a tier")
    told = await a.fleet.ask("push", {"key": "pause/tier:1s"}, 5)
    assert sorted(told["machines"], key=lambda answer: answer["machine"]) == [
        {"machine": "a", "answer": {"said by": "a"}},
        {"machine": "b", "error": "tell me a tier"},
        {"machine": "c", "answer": {"said by": "c"}},
    ]
    assert told["missing"] == []
    assert [station.asked for station in (a, b, c)] == [[("push", {"key": "pause/tier:1s"}, 5)]] * 3
    c.hangs = True
    told = await a.fleet.ask("status", {}, 2)
    assert told["missing"] == ["c"]
    assert {"machine": "c", "error": "c did not answer in 2 s"} in told["machines"]


@pytest.mark.parametrize("name", ["a", "b"])
async def test_one_machine_can_be_asked_alone(stations: Stations, name: str) -> None:
    trio = await stations.trio()
    told = await trio[0].fleet.ask("status", {}, 5, machine=name)
    assert told == {"machines": [{"machine": name, "answer": {"said by": name}}], "missing": []}
    assert [station.name for station in trio if station.asked] == [name]


async def test_what_is_not_for_all_is_refused_here_and_there(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = await stations.trio()
    with pytest.raises(InvalidInput, match="no machine is called 'd'; there are a, b, c"):
        await a.fleet.ask("status", {}, 1, machine="d")
    with pytest.raises(InvalidInput, match="'shutdown' cannot be asked of other machines"):
        await a.fleet.ask("shutdown", {}, 1)
    said = {"kind": "ask", "verb": "shutdown", "body": {}, "timeout": 1}
    refused = await a.fleet._ask(said, 1, None)  # a machine with another idea of what is allowed
    assert {answer["error"] for answer in refused} == {"'shutdown' cannot be asked of another machine"}
    assert (b.asked, c.asked) == ([], [])


async def test_a_fault_there_is_told_here_without_its_words(
    stations: Stations, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, _ = await stations.trio()
    b.error = KeyError("secret")
    told = await a.fleet.ask("status", {}, 5, machine="b")
    assert told["machines"] == [{"machine": "b", "error": "it failed there, see its log: KeyError"}]


async def test_an_answer_that_is_too_long_is_told_as_that(stations: Stations, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = await stations.trio()
    monkeypatch.setattr(b, "name", "b" * LONGEST)
    told = await a.fleet.ask("status", {}, 5, machine="b")
    assert told["machines"][0]["error"].startswith("its answer cannot be sent: a message between machines of ")


async def test_two_fleets_in_one_broker_do_not_hear_each_other(stations: Stations, topology: Topology) -> None:
    a, b, _ = await stations.trio()
    stranger = await stations.start("stranger", STRANGE)
    await until(lambda: a.fleet.dropped.get("forged") and stranger.fleet.dropped == {})
    await a.fleet.changed(1, critical=False)
    await until(lambda: stranger.fleet.dropped.get("forged"))
    assert stranger.sees() == ["stranger"]
    assert "stranger" not in a.sees() + b.sees()
    assert stranger.asked == []


async def test_secrets_can_be_rotated_machine_by_machine(stations: Stations) -> None:
    old = await stations.start("old", SECRET)
    both = await stations.start("both", NEXT, SECRET)
    await until(lambda: old.sees() == ["old", "both"] and both.sees() == ["both", "old"])
    assert await old.fleet.changed(2, critical=False) == [{"machine": "both", "live": 3, "of": 4}]
    assert await both.fleet.changed(3, critical=False) == [{"machine": "old", "live": 3, "of": 4}]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda namespace: b"garbage", "garbage"),
        (lambda namespace: Seal([STRANGE], namespace).seal({"kind": "leave", "instance": "x"}, time.time()), "forged"),
        (lambda namespace: Seal([SECRET], "other").seal({"kind": "leave", "instance": "x"}, time.time()), "forged"),
        (lambda namespace: Seal([SECRET], namespace).seal({"kind": "leave"}, time.time() - FRESH - 1), "stale"),
        (lambda namespace: Seal([SECRET], namespace).seal({"kind": "waltz"}, time.time()), "unknown"),
        (lambda namespace: Seal([SECRET], namespace).seal({"kind": "ask", "id": 1}, time.time()), "unknown"),
    ],
    ids=["garbage", "forged", "foreign namespace", "stale", "unknown", "malformed"],
)
async def test_what_is_not_believed_is_dropped_and_counted(
    stations: Stations, bench: Bench, topology: Topology, make: Callable[[str], bytes], reason: str
) -> None:
    a, b = await stations.start("a"), await stations.start("b")
    await until(lambda: len(a.sees()) == 2 and len(b.sees()) == 2)
    await say(bench, topology, make(topology.namespace))
    await until(lambda: a.fleet.dropped == {reason: 1} and b.fleet.dropped == {reason: 1})
    assert await a.fleet.changed(5, critical=False) == [{"machine": "b", "live": 3, "of": 4}]


async def test_a_change_that_is_played_again_is_not_done_again(
    stations: Stations, bench: Bench, topology: Topology, connection: AbstractConnection
) -> None:
    a, b = await stations.start("a"), await stations.start("b")
    await until(lambda: len(a.sees()) == 2)
    channel = await connection.channel()
    tap = (await channel.queue_declare("", exclusive=True)).queue
    assert tap is not None
    await channel.queue_bind(tap, topology.control)
    await a.fleet.changed(5, critical=False)
    recorded = []
    while body := (await channel.basic_get(tap, no_ack=True)).body:
        recorded.append(body)
    assert any(b'"registry"' in body for body in recorded)
    for body in recorded:
        await say(bench, topology, body)
    await until(lambda: b.fleet.dropped.get("replayed", 0) >= 1)
    assert b.asked == [("registry", 5, False)]


async def test_two_machines_of_one_name_are_noticed_by_all(
    stations: Stations, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "notifier")
    a, b = await stations.start("a"), await stations.start("b")
    other = await stations.start("b")
    await until(lambda: all(station.fleet.machines()[0]["twin"] for station in (b, other)))
    await until(lambda: [machine["twin"] for machine in a.fleet.machines()] == [False, True, True])
    assert {record.fields["machine"] for record in caplog.records if record.getMessage() == "fleet.twins"} == {"b"}  # type: ignore[attr-defined]
    told = await a.fleet.changed(5, critical=False)
    assert [answer["machine"] for answer in told] == ["b", "b"], "both have to live by a change"


async def test_an_agent_that_starts_again_is_no_twin_and_nobody_waits_for_the_former_one(stations: Stations) -> None:
    a, b = await stations.start("a"), await stations.start("b")
    await until(lambda: len(a.sees()) == 2)
    assert b.fleet._announcing is not None
    b.fleet._announcing.cancel()  # as if killed: no goodbye, and its connection gone
    await b.fleet._fanout.close()
    again = await stations.start("b")
    await until(lambda: len(again.sees()) == 2)
    assert [(machine["machine"], machine["twin"]) for machine in a.fleet.machines()] == [("a", False), ("b", False)]
    assert await a.fleet.changed(5, critical=False) == [{"machine": "b", "live": 3, "of": 4}]
    b.fleet._announcing = None


async def test_after_a_lost_connection_a_machine_is_back_with_all_it_knows(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = await stations.trio()
    monkeypatch.setattr(fleets, "ACQUAINTED", 0)  # who asks does not wait for the connection either
    a.fleet._fanout._link.reopen()
    with pytest.raises(BrokerUnreachable, match="no connection"):
        await a.fleet._fanout.say(b"")
    answers = await a.fleet.changed(5, critical=False)
    assert [answer["error"] for answer in answers] == [
        "b could not be asked: RabbitMQ cannot be reached",
        "c could not be asked: RabbitMQ cannot be reached",
    ]
    b.state = {"registry": 9}
    await until(lambda: [machine.get("registry") for machine in a.fleet.machines()] == [1, 9, 1])
    assert len(await a.fleet.changed(6, critical=False)) == 2
    assert len(await b.fleet.changed(7, critical=False)) == 2
    assert ("registry", 7, False) in a.asked


async def test_without_a_signing_secret_a_machine_is_alone(
    broker: Any, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings.model_validate(
        {"amqp_url": broker.url, "namespace": topology.namespace, "machine": "a", "callback": "package.module:function"}
    )
    station = Station(broker.url, topology, "a")
    fleet = Fleet(settings, topology, lambda: {"registry": 1}, station._registry, station._verb)
    await fleet.start()
    assert [record.getMessage() for record in caplog.records] == ["fleet.alone"]
    assert [machine["machine"] for machine in fleet.machines()] == ["a"]
    assert await fleet.changed(1, critical=True) == []
    assert await fleet.ask("ping", {}, 1) == {"machines": [{"machine": "a", "answer": {"said by": "a"}}], "missing": []}
    await fleet.close()


async def test_the_queue_of_a_machine_is_its_own_and_ends_with_its_connection(
    stations: Stations, connection: AbstractConnection
) -> None:
    a = await stations.start("a")
    queue = a.fleet._fanout.queue
    assert queue is not None
    with pytest.raises(ChannelLockedResource):
        await (await connection.channel()).queue_declare(queue, passive=True)
    await a.fleet.close()
    with pytest.raises(ChannelNotFoundEntity):
        await (await connection.channel()).queue_declare(queue, passive=True)
