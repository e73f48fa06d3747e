"""Operator events: their form, what makes one, and that they neither flood nor loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from notifier.agent import flood, happenings, operations
from notifier.agent.changing import Change
from notifier.agent.flood import EXAMPLES as SHOWN
from notifier.agent.flood import GATHER, Gate
from notifier.agent.incidents import Incidents
from notifier.agent.operations import Operations
from notifier.delivery.acceptance import compose
from notifier.domain.notification import OPERATIONS, Notification
from notifier.domain.operations import Event, Happening, told
from notifier.errors import BrokerError, DatabaseUnavailable, InvalidInput, PeerGone
from notifier.sections import Operations as Section
from notifier.settings import Settings
from tests.unit.operator_events import (
    EXAMPLES,
    NOW_MS,
    URL,
    breaker,
    disabled,
    documented,
    exhausted,
    sent,
    slot,
    status,
)

# --- their form


@pytest.mark.parametrize("event", list(Event))
def test_the_example_of_each_event_on_the_page_is_what_is_sent(event: Event) -> None:
    assert documented()[event] == sent(event)


@pytest.mark.parametrize("event", list(Event))
def test_an_event_is_an_ordinary_notification_to_the_services_own_merchant(event: Event) -> None:
    found, count = EXAMPLES[event]
    notification = told(found, count, "vm-1", URL, NOW_MS)
    assert (notification.merchant, notification.url, notification.reference) == (OPERATIONS, URL, str(event))
    body = json.loads(notification.payload)
    assert body["id"] == notification.id
    assert set(body) == {"type", "id", "time", "data"}
    assert set(body["data"]) == {"sentence", "machine", "count", "examples"}


def test_the_same_thing_has_the_same_id_whoever_tells_it_and_another_time_of_it_has_not() -> None:
    one, other = told([breaker()], 1, "vm-1", URL, NOW_MS), told([breaker()], 1, "vm-2", URL, NOW_MS + 5000)
    assert one.id == other.id
    assert breaker(since=NOW_MS - 2000).id != one.id != breaker("shop-8").id
    assert disabled(since=1).id != disabled(since=2).id


def test_what_cannot_be_written_as_text_does_not_keep_an_event_back() -> None:
    assert json.loads(told([disabled("half \ud800 pair")], 1, "vm-1", URL, NOW_MS).payload)["data"]["count"] == 1


# --- what makes one


@pytest.mark.parametrize(
    "value",
    [None, {"state": "half-open"}, {"machine": "vm-2"}, {"state": "ajar"}],
    ids=["closed", "a probe", "told by another machine", "no breaker"],
)
def test_only_a_breaker_of_this_machine_that_opens_is_told(value: Mapping[str, Any] | None) -> None:
    whole = {"state": "open", "since": 1, "until": 2, "failed": 2, "of": 2, "pause": 1}
    assert happenings.of_breaker("breaker/m", whole) is not None
    assert happenings.of_breaker("breaker/m", None if value is None else whole | value) is None


@pytest.mark.parametrize(
    ("slots", "heads", "found"),
    [
        ([slot()], {}, []),
        ([slot(statistics={})], {}, []),
        ([slot(statistics={"late_p99_ms": 29_999.0})], {}, []),
        ([slot(statistics={"late_p99_ms": 30_000.0})], {}, [("tier.late", "5s")]),
        ([slot(statistics={"late_p99_ms": None})], {"5s": NOW_MS - 31_000}, [("tier.late", "5s")]),
        ([slot(statistics={"late_p99_ms": None})], {"5s": NOW_MS + 31_000, "9s": 0}, []),
        ([slot(state="paused")], {"5s": NOW_MS - 31_000}, []),
        ([slot(state="stopped")], {"5s": NOW_MS - 31_000}, []),
        ([slot(state="backoff")], {"5s": NOW_MS - 31_000}, [("tier.late", "5s")]),
        ([slot("agent", degraded=True)], {}, [("slot.degraded", "agent")]),
        ([slot("api", state="degraded")], {}, [("slot.degraded", "api")]),
        ([slot("api", state="backoff")], {}, []),
    ],
)
def test_a_tier_that_is_late_and_a_process_that_keeps_ending_are_troubles(
    slots: list[dict[str, Any]], heads: dict[str, int], found: list[tuple[str, str]]
) -> None:
    troubles = happenings.troubles(status(*slots), heads, Section(), NOW_MS)
    assert [(str(trouble.event), trouble.subject) for trouble in troubles] == found


@pytest.mark.parametrize(
    ("more", "tells"),
    [
        ({}, False),
        ({"reason": "gave no sign of life for 30 s"}, True),
        ({"reason": "did not read its pipe for 5 s; SIGKILL"}, True),
        ({"reason": "gave no sign of life for 30 s", "uptime": 300.0}, False),
        ({"reason": "gave no sign of life for 30 s", "degraded": True}, False),
        ({"reason": "exit code 1"}, False),
    ],
)
def test_a_process_that_hung_a_moment_ago_is_told(more: dict[str, Any], tells: bool) -> None:
    assert [each.subject for each in happenings.hung(status(slot(epoch=2, **more)))] == ["tier:5s hung"] * tells


# --- no flood


def test_few_are_told_one_by_one_as_soon_as_they_are_gathered() -> None:
    gate = Gate(10, 300)
    assert gate.due is None
    gate.add(breaker("a"), 100.0)
    gate.add(breaker("b"), 101.0)
    assert (gate.due, gate.take(101.9)) == (100 + GATHER, [])
    assert [(len(batch), count) for batch, count in gate.take(102.0)] == [(1, 1), (1, 1)]
    assert (gate.due, gate.take(500.0)) == (None, [])


def test_a_thousand_at_the_same_time_are_one_event_with_examples() -> None:
    gate = Gate(1, 300)
    for number in range(1000):
        gate.add(exhausted(number), 0.0)
    ((batch, count),) = gate.take(GATHER)
    assert (len(batch), count) == (SHOWN, 1000)
    gate.add(exhausted(1001), 10.0)
    assert gate.due == GATHER + 300
    assert gate.take(301.0) == []
    ((_, count),) = gate.take(GATHER + 300)
    assert count == 1


def test_in_an_interval_no_more_events_go_out_than_may_and_the_rest_in_one_when_it_is_over() -> None:
    gate, events, counted = Gate(3, 300), 0, 0
    for second in range(600):
        if second < 300:
            gate.add(breaker(f"m{second}"), second)
        told = gate.take(second)
        events += len(told)
        counted += sum(count for _, count in told)
    assert (events, counted) == (4, 300)


def test_what_is_left_is_told_at_the_end_without_waiting() -> None:
    gate = Gate(1, 300)
    gate.add(exhausted(1), 0.0)
    gate.take(GATHER)
    gate.add(exhausted(2), 3.0)
    assert [count for _, count in gate.rest(3.0)] == [1]
    assert gate.rest(3.0) == []


# --- telling


class Telling:
    """Operations with a broker and a ledger that are played. accepted: what the broker has."""

    def __init__(self, known: set[str] | Exception = frozenset(), **section: Any) -> None:  # type: ignore[assignment]
        self.accepted: list[Notification] = []
        self.remembered: list[Happening] = []
        self.refusals: list[Exception] = []
        self.known = known
        self.now = 0.0
        self.handed_in = asyncio.Event()
        settings = Settings(machine="vm-1", operations=Section(**{"url": URL} | section))
        self.operations = Operations(
            settings, self._accept, self._known, self._told, clock=lambda: NOW_MS / 1000, steady=lambda: self.now
        )

    async def _accept(self, notification: Notification) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.accepted.append(notification)
        self.handed_in.set()

    async def _known(self, ids: Sequence[str]) -> set[str]:
        if isinstance(self.known, Exception):
            raise self.known
        return self.known & set(ids)

    async def _told(self, happening: Happening) -> None:
        self.remembered.append(happening)
        raise PeerGone("the master is away")

    async def all(self) -> list[dict[str, Any]]:
        """What was told in the end."""
        self.operations.start()
        await self.operations.close()
        return [json.loads(each.payload) for each in self.accepted]


async def test_what_happened_twice_is_told_once_and_what_the_ledger_has_not_again() -> None:
    telling = Telling(known={breaker("told").id})
    for _ in range(2):
        assert telling.operations.happened(breaker())
        assert telling.operations.happened(breaker("told"))
    (event,) = await telling.all()
    assert event["data"]["examples"][0]["merchant"] == "shop-7"
    assert {each.subject for each in telling.remembered} == {"shop-7", "told"}


async def test_without_a_database_it_is_told_all_the_same() -> None:
    telling = Telling(known=DatabaseUnavailable("away"))
    telling.operations.happened(breaker())
    assert [event["type"] for event in await telling.all()] == ["breaker.open"]


async def test_the_same_merchant_is_told_again_only_after_the_interval() -> None:
    telling = Telling(interval=300)
    assert telling.operations.happened(breaker(since=1))
    assert not telling.operations.happened(breaker(since=2))
    assert telling.operations.happened(breaker("another", since=2))
    telling.now = 300.0
    assert telling.operations.happened(breaker(since=2))


@pytest.mark.parametrize(
    "happening", [breaker(OPERATIONS), exhausted(1, OPERATIONS), disabled(OPERATIONS)], ids=lambda each: str(each.event)
)
async def test_nothing_about_the_services_own_merchant_is_ever_an_event(happening: Happening) -> None:
    telling = Telling()
    assert telling.operations.happened(happening)
    assert await telling.all() == []


async def test_only_what_somebody_wants_to_know_is_told() -> None:
    telling = Telling(events="tier.late")
    telling.operations.happened(breaker())
    assert await telling.all() == []
    nobody = Telling(url=None)
    nobody.operations.happened(breaker())
    assert await nobody.all() == []


async def test_what_rabbitmq_refuses_is_handed_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood, "GATHER", 0.0)
    monkeypatch.setattr(operations, "AGAIN", 0.001)
    telling = Telling()
    telling.refusals = [BrokerError("no queue")]
    telling.operations.start()
    telling.operations.happened(breaker())
    async with asyncio.timeout(5):
        await telling.handed_in.wait()
    assert len(telling.accepted) == 1
    await telling.operations.close()


# --- what goes on for a while


class Line:
    """The master, played: its status, and the keys that it was told."""

    def __init__(self, *slots: dict[str, Any]) -> None:
        self.slots = slots
        self.state: dict[str, Any] = {}

    async def control(
        self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0
    ) -> Mapping[str, Any]:
        match verb, body:
            case "push", {"key": key, "value": value}:
                self.state[key] = value
            case "clear", {"key": key}:
                del self.state[key]
        return status(*self.slots)


class Watched:
    """Incidents, with a clock that is set. happened: what was told, each of which is remembered."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.now = NOW_MS / 1000
        self.happened: list[Happening] = []
        settings = Settings(machine="vm-1", operations=Section(url=URL, late=30, late_for=60))
        self.incidents = Incidents(line, settings, self._happened, self._heads, clock=lambda: self.now)

    def _happened(self, happening: Happening) -> bool:
        self.happened.append(happening)
        return True

    async def _heads(self) -> Mapping[str, int]:
        raise DatabaseUnavailable("away")

    async def look(self, seconds: float, *, remember: bool = True) -> list[str]:
        """So much later; what was told."""
        self.now += seconds
        self.happened.clear()
        await self.incidents.look()
        for happening in self.happened if remember else ():
            await self.incidents.told(happening)
        return [str(each.event) for each in self.happened]


LATE, WELL = slot(statistics={"late_p99_ms": 42_000.0}), slot()


async def test_a_tier_is_told_once_when_it_was_late_for_so_long_and_again_after_it_was_well_for_so_long() -> None:
    watched = Watched(Line(LATE))
    assert await watched.look(0) == []
    assert await watched.look(59) == []
    assert await watched.look(1) == ["tier.late"]
    assert list(watched.line.state) == ["told/tier.late/5s"]
    assert await watched.look(600) == []
    watched.line.slots = (WELL,)
    assert await watched.look(5) == []
    watched.line.slots = (LATE,)
    assert await watched.look(30) == []
    watched.line.slots = (WELL,)
    assert await watched.look(5) == []
    assert "told/tier.late/5s" in watched.line.state
    assert await watched.look(60) == []
    assert watched.line.state == {}
    watched.line.slots = (LATE,)
    assert await watched.look(5) == []
    assert await watched.look(60) == ["tier.late"]


async def test_an_agent_that_was_started_again_does_not_tell_again_and_ends_what_is_over() -> None:
    line = Line(LATE, slot("api", degraded=True))
    before = Watched(line)
    await before.look(0)
    await before.look(60)
    assert set(line.state) == {"told/tier.late/5s", "told/slot.degraded/api"}
    after = Watched(line)
    assert [await after.look(seconds) for seconds in (0, 61)] == [[], []]
    line.slots = (WELL, slot("api"))
    assert [await after.look(seconds) for seconds in (0, 61)] == [[], []]
    assert line.state == {}


async def test_what_was_not_told_yet_is_said_again_under_the_same_id() -> None:
    watched = Watched(Line(slot("api", degraded=True)))
    assert await watched.look(0, remember=False) == ["slot.degraded"]
    first = watched.happened[0].id
    assert await watched.look(5) == ["slot.degraded"]
    assert watched.happened[0].id == first
    assert await watched.look(5) == []


# --- the name is the service's own


@pytest.mark.parametrize(
    "addressed",
    [
        lambda: compose(Settings(), merchant=OPERATIONS, payload=b"{}", url=URL),
        lambda: Change.checked("add", OPERATIONS, {"url": URL}, "ann", None, None, Settings()),
        lambda: Change.checked("block", OPERATIONS, {}, "ann", None, None, Settings()),
    ],
    ids=["enqueued", "registered", "blocked"],
)
def test_nobody_else_may_address_or_change_the_services_own_merchant(addressed: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput, match="notifier-operations is the service's own name for its operator events"):
        addressed()
