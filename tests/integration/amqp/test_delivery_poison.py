"""What cannot be worked goes to poison, with its reason, as it came; and nothing is ever nacked or lost."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest
from queues import Bench
from room import Answer, Scripted, at_work

from notifier.broker import poison
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.facts import Recorder
from notifier.domain import wire
from notifier.domain.fact import Fact
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

AT_ONCE = Tier(0)
BODY = b'{"order":42}'


async def buried(broker: Any, topology: Topology, bench: Bench, callback: Scripted) -> tuple[Message, dict[str, Any]]:
    """What stands in the poison queue and in the ledger after the one message of the work queue was worked."""
    async with at_work(broker.url, topology, callback) as stage:
        (message,) = await bench.take(topology.poison)
        (fact,) = [each for each in await bench.facts(topology.ledger, 1) if each["kind"] == "poisoned"]
        await stage.drained()
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0
    return message, fact


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "header 'merchant' is missing; it is the only required one"),
        ({"merchant": ""}, "'' is not a merchant id"),
        ({"merchant": "m1", "notification": "a b"}, "header 'notification' is 'a b'"),
        ({"merchant": "m1", "url": "ftp://shop.example"}, "it must start with https:// or http://"),
        ({"merchant": "m1", "ladder": "1s,x"}, "tier 2 of ladder '1s,x'"),
        ({"merchant": "m1", "step": "two"}, "header 'step' must be a whole number, 0 or more; it is 'two'"),
        ({"merchant": "m1", "attempt": 0}, "header 'attempt' must be a whole number, 1 or more; it is 0"),
        ({"merchant": "m1", "v": 2}, "header 'v' is 2; this notifier reads wire version 1"),
    ],
)
async def test_what_cannot_be_read_is_poisoned_with_the_reason(
    broker, topology: Topology, bench: Bench, declared: None, headers: dict[str, Any], reason: str
) -> None:
    await bench.publish(topology.work, "0s", BODY, {**headers, "theirs": [1]}, message_id="mid", content_type="a/b")
    callback = Scripted()
    message, fact = await buried(broker, topology, bench, callback)
    assert callback.calls == []
    assert reason in message.headers[poison.REASON]
    assert reason in fact["reason"]
    assert (message.headers[poison.TIER], fact["tier"]) == ("0s", "0s")
    assert message.headers[poison.AT] == pytest.approx(fact["at"], abs=2000)
    kept = {name: value for name, value in message.headers.items() if not name.startswith("notifier-poison-")}
    assert kept == {**headers, "theirs": [1]}
    assert (message.body, message.content_type) == (BODY, "a/b")
    assert base64.b64decode(fact["payload"]) == BODY
    assert fact["headers"] == {**headers, "theirs": [1]}


async def test_a_poisoned_message_keeps_its_identity_under_its_new_message_id(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    await bench.publish(topology.work, "0s", BODY, {"v": 9, "merchant": "m1"}, message_id="order-42")
    message, fact = await buried(broker, topology, bench, Scripted())
    assert message.message_id != "order-42"
    assert wire.identity(message) == fact["notification"] == "order-42"


async def test_a_body_over_the_limit_is_poisoned_whole_and_not_copied_into_the_ledger(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    """A fact of a hundred megabytes would be refused by the broker, for ever."""
    body = b"x" * 10_001
    await bench.publish(topology.work, "0s", body, {"merchant": "m1"}, message_id="mid")
    message, fact = await buried(broker, topology, bench, Scripted())
    assert message.body == body
    assert fact["reason"] == "the body holds 10001 bytes; at most 10000 are allowed"
    assert fact["payload"] == ""


class OwnBaseException(BaseException):
    """Something that no `except Exception` sees."""


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (ValueError("broken"), "ValueError: broken"),
        (asyncio.CancelledError(), "CancelledError"),
        (OwnBaseException("base"), "OwnBaseException: base"),
        (SystemExit(3), "SystemExit: 3"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
async def test_a_callback_that_breaks_its_promise_costs_its_message_the_work_and_nobody_else_anything(
    broker, topology: Topology, bench: Bench, declared: None, fault: Answer, name: str
) -> None:
    await bench.publish(topology.work, "0s", BODY, {"merchant": "m1"}, message_id="broken")
    await bench.publish(topology.work, "0s", BODY, {"merchant": "m2"}, message_id="fine")
    async with at_work(broker.url, topology, Scripted(fault, Outcome.ok()), prefetch=1) as stage:
        await stage.settled(2)
        (message,) = await bench.take(topology.poison)
        kinds = [fact["kind"] for fact in await bench.facts(topology.ledger, 3)]
    assert f"notifier failed on it: {name}" in message.headers[poison.REASON]
    assert wire.identity(message) == "broken"
    assert kinds == ["poisoned", "attempted", "completed"]
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


async def test_an_outcome_that_cannot_be_told_is_a_fault_of_ours_too(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    await bench.publish(topology.work, "0s", BODY, {"merchant": "m1"}, message_id="mid")
    unspeakable: Any = Outcome(True, answer="text, not bytes")  # type: ignore[arg-type]
    message, _ = await buried(broker, topology, bench, Scripted(unspeakable))
    assert "notifier failed on it: TypeError" in message.headers[poison.REASON]


async def test_headers_that_leave_no_room_for_ours_cost_the_headers_and_nothing_else(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    """A frame holds 128 KiB. A next tier adds headers of ours, and a poisoned message its reason."""
    headers = {"merchant": "m1", "notification": "n1", "theirs": "x" * 130_900}
    await bench.publish(topology.work, "0s", BODY, headers, message_id="mid")
    async with at_work(broker.url, topology, Scripted(Outcome.failed("no"))) as stage:
        (message,) = await bench.take(topology.poison)
        await stage.drained()
    reason = message.headers[poison.REASON]
    assert "MessageTooLarge: the headers of a message hold" in reason
    assert "headers not kept" in reason
    assert (message.body, message.headers["notification"], message.headers["merchant"]) == (BODY, "n1", "m1")
    assert "theirs" not in message.headers
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


async def test_headers_beyond_decoding_stop_nobody(broker, topology: Topology, bench: Bench, declared: None) -> None:
    value = b""
    for _ in range(5_000):
        value = b"A" + struct.pack(">I", len(value)) + value
    await bench.publish_raw(topology.work, "0s", BODY, b"\x04deep" + value)
    await bench.publish(topology.work, "0s", BODY, {"merchant": "m2"}, message_id="fine")
    async with at_work(broker.url, topology, Scripted()) as stage:
        (message,) = await bench.take(topology.poison)
        await stage.settled()
    assert message.headers[poison.REASON].startswith("its headers cannot be decoded")
    assert message.headers[wire.UNDECODABLE] == bytearray(b"\x04deep" + value)
    assert message.body == BODY
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


async def test_a_name_in_latin_1_and_a_timestamp_in_microseconds_are_no_reason_for_anything(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    latin = b"S" + struct.pack(">I", 4) + b"caf\xe9"
    moment = b"T" + struct.pack(">Q", 1_800_000_000_000_000)
    await bench.publish_raw(
        topology.work, "0s", BODY, b"\x08merchantS\x00\x00\x00\x02m1" + b"\x04shop" + latin + b"\x02at" + moment
    )
    callback = Scripted(Outcome.failed("no"))
    async with at_work(broker.url, topology, callback) as stage:
        await stage.settled()
        (waiting,) = await bench.take(topology.wait_queue(Tier(5)))
    assert callback.calls[0].merchant == "m1"
    assert (waiting.headers["shop"], waiting.headers["at"]) == (bytearray(b"caf\xe9"), 1_800_000_000_000_000)
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0


class BrokenRecorder(Recorder):
    """Has a fault: raises what nobody foresaw, so many times."""

    def __init__(self, publisher: Publisher, topology: Topology) -> None:
        super().__init__(publisher, topology)
        self.faults = 3

    async def record(self, *facts: Fact) -> None:
        """As ever, once it is mended."""
        if self.faults:
            self.faults -= 1
            raise RuntimeError("a fault of ours")
        await super().record(*facts)


async def test_what_cannot_even_go_to_poison_goes_back_to_its_queue_and_is_worked_again(
    broker, topology: Topology, bench: Bench, declared: None
) -> None:
    """Its own fact fails, and then that of its poisoning, with its headers and without."""
    await bench.publish(topology.work, "0s", BODY, {"merchant": "m1"}, message_id="mid")
    async with at_work(broker.url, topology, Scripted(), recorder=BrokenRecorder, prefetch=1) as stage:
        await stage.settled(2)
        await stage.consumer.close()
        assert [each["kind"] for each in await bench.facts(topology.ledger, 2)] == ["attempted", "completed"]
    assert await bench.left(topology.work_queue(AT_ONCE)) == 0
    assert await bench.ready(topology.poison) == 0
