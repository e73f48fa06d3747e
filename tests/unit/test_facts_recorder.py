"""Group commit of facts: what gathers, what is told to whom, and what a failure costs."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology, Way
from notifier.delivery import facts
from notifier.delivery.facts import Recorder
from notifier.domain.fact import Fact, Kind
from notifier.domain.tier import Tier
from notifier.domain.wire import Message
from notifier.errors import MessageTooLarge

TOPOLOGY = Topology("n", (Tier(1),))


class Ledger:
    """A publisher whose confirms wait for the test. refusing: message numbers that fail."""

    def __init__(self, *refusing: int) -> None:
        self.ways: list[Way] = []
        self.messages: list[Message] = []
        self.confirming = asyncio.Event()
        self.confirming.set()
        self._refusing = refusing

    async def insist_by(self, way: Way, message: Message) -> None:
        self.ways.append(way)
        self.messages.append(message)
        number = len(self.messages)
        await self.confirming.wait()
        if number in self._refusing:
            raise MessageTooLarge("too large")

    @property
    def ids(self) -> list[list[str]]:
        """Notification ids, by message."""
        return [[each["notification"] for each in json.loads(message.body)] for message in self.messages]


def recorder(ledger: Ledger) -> Recorder:
    return Recorder(cast(Publisher, ledger), TOPOLOGY)


def fact(notification: str, size: int = 0) -> Fact:
    return Fact(Kind.ACCEPTED, notification, 0, 1, {"payload": "x" * size})


async def until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_gathers_while_one_message_is_in_flight_travels_in_the_next() -> None:
    ledger = Ledger()
    ledger.confirming.clear()
    recording = recorder(ledger)
    records = [asyncio.create_task(recording.record(fact(f"n{number}"))) for number in range(1000)]
    await until_idle()
    ledger.confirming.set()
    await asyncio.gather(*records)
    sent = ledger.ids
    assert [notification for ids in sent for notification in ids] == [f"n{number}" for number in range(1000)]
    assert len(sent) <= 2


async def test_what_comes_within_moments_of_a_message_travels_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "APART", 0.2)
    ledger = Ledger()
    recording = recorder(ledger)
    await recording.record(fact("a"))
    later = []
    for number in range(3):
        later.append(asyncio.create_task(recording.record(fact(f"b{number}"))))
        await until_idle()
    assert ledger.ids == [["a"]]
    await asyncio.gather(*later)
    assert ledger.ids == [["a"], ["b0", "b1", "b2"]]


async def test_what_waits_for_the_next_message_is_cancelled_by_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "APART", 60.0)
    ledger = Ledger()
    recording = recorder(ledger)
    await recording.record(fact("a"))
    later = asyncio.create_task(recording.record(fact("b")))
    await until_idle()
    await recording.close()
    with pytest.raises(asyncio.CancelledError):
        await later
    assert ledger.ids == [["a"]]


async def test_a_full_message_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "APART", 60.0)
    monkeypatch.setattr(facts, "_MOST_BYTES", 1000)
    ledger = Ledger()
    recording = recorder(ledger)
    await recording.record(fact("a"))
    async with asyncio.timeout(10):
        await recording.record(fact("large", 1000))
    assert ledger.ids == [["a"], ["large"]]


async def test_a_lone_record_goes_out_at_once_without_a_timer() -> None:
    ledger = Ledger()
    await recorder(ledger).record(fact("a"), fact("b"))
    assert ledger.ids == [["a", "b"]]
    assert ledger.ways == [Way("", "n.ledger")]


async def test_a_message_holds_a_json_array_and_says_its_version() -> None:
    ledger = Ledger()
    await recorder(ledger).record(fact("a"))
    (message,) = ledger.messages
    assert message.content_type == "application/json"
    assert message.headers == {"v": 1}
    assert message.message_id
    assert json.loads(message.body)[0]["kind"] == "accepted"


async def test_every_message_has_an_id_of_its_own() -> None:
    ledger = Ledger()
    recording = recorder(ledger)
    await recording.record(fact("a"))
    await recording.record(fact("b"))
    assert len({message.message_id for message in ledger.messages}) == 2


async def test_a_record_returns_only_after_its_own_confirm() -> None:
    ledger = Ledger()
    ledger.confirming.clear()
    record = asyncio.create_task(recorder(ledger).record(fact("a")))
    await until_idle()
    assert len(ledger.messages) == 1
    assert not record.done()
    ledger.confirming.set()
    await record


async def test_messages_stay_below_a_bound_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_MOST_BYTES", 1000)
    ledger = Ledger()
    recording = recorder(ledger)
    await asyncio.gather(*(recording.record(fact(f"n{number}", 300)) for number in range(9)))
    assert sum(map(len, ledger.ids)) == 9
    assert max(len(message.body) for message in ledger.messages) <= 1000


async def test_a_record_beyond_the_bound_travels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_MOST_BYTES", 1000)
    ledger = Ledger()
    recording = recorder(ledger)
    await asyncio.gather(
        recording.record(fact("a")), recording.record(fact("large", 5000)), recording.record(fact("b"))
    )
    assert ["large"] in ledger.ids


async def test_a_failure_is_told_to_those_it_concerns_and_the_rest_goes_on() -> None:
    ledger = Ledger(1)
    ledger.confirming.clear()
    recording = recorder(ledger)
    first = asyncio.create_task(recording.record(fact("a")))
    await until_idle()
    second = asyncio.create_task(recording.record(fact("b")))
    await until_idle()
    ledger.confirming.set()
    with pytest.raises(MessageTooLarge):
        await first
    await second
    assert ledger.ids == [["a"], ["b"]]


async def test_a_fact_that_cannot_be_written_concerns_only_its_own_record() -> None:
    circular: dict[str, object] = {}
    circular["itself"] = circular
    ledger = Ledger()
    recording = recorder(ledger)
    records = [recording.record(fact("a")), recording.record(Fact(Kind.HELD, "bad", 0, 1, circular))]
    done = await asyncio.gather(*records, return_exceptions=True)
    assert done[0] is None
    assert isinstance(done[1], ValueError)


async def test_a_record_given_up_by_its_owner_does_not_disturb_the_others() -> None:
    ledger = Ledger()
    ledger.confirming.clear()
    recording = recorder(ledger)
    records = [asyncio.create_task(recording.record(fact(f"n{number}"))) for number in range(3)]
    await until_idle()
    records[1].cancel()
    ledger.confirming.set()
    done = await asyncio.gather(*records, return_exceptions=True)
    assert [type(each) for each in done] == [type(None), asyncio.CancelledError, type(None)]


async def test_closing_ends_every_record_in_flight_and_gathered() -> None:
    ledger = Ledger()
    ledger.confirming.clear()
    recording = recorder(ledger)
    records = [asyncio.create_task(recording.record(fact("sent")))]
    await until_idle()
    records.append(asyncio.create_task(recording.record(fact("gathered"))))
    await until_idle()
    await recording.close()
    await recording.close()
    done = await asyncio.wait_for(asyncio.gather(*records, return_exceptions=True), 1)
    assert [type(each) for each in done] == [asyncio.CancelledError, asyncio.CancelledError]
