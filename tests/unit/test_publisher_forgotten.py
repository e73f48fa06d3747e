"""A publish that the broker forgot is found without other traffic; one that is merely late is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from notifier.broker import publisher as module
from notifier.broker.connection import Link
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.facts import Recorder
from notifier.domain.fact import Fact, Kind
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

TOPOLOGY = Topology("n", (Tier(1),))
#: Seconds between two looks.
LOOK = 5


@dataclass
class Published:
    exchange: str
    routing_key: str
    mandatory: bool
    persistent: bool
    message_id: str


class FakeChannel:
    """Confirms at once, except what goes to a name in `silent` (all of them: None). Those end with the channel."""

    max_content_size = 131_000

    def __init__(self, *silent: str | None) -> None:
        self.silent = silent
        self.published: list[Published] = []
        self.under_way = 0
        self._closed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()

    async def basic_publish(
        self, body: bytes, *, exchange: str, routing_key: str, mandatory: bool, wait: bool, properties: Any
    ) -> None:
        persistent = properties.delivery_mode == 2
        self.published.append(Published(exchange, routing_key, mandatory, persistent, properties.message_id))
        self.under_way += 1
        try:
            if routing_key in self.silent or None in self.silent:
                await self._closed.wait()
                raise ConnectionError("cut")
        finally:
            self.under_way -= 1

    def sent_to(self, routing_key: str) -> list[Published]:
        return [each for each in self.published if each.routing_key == routing_key]


class FakeLink:
    """One connection after the other, as the channels are given; the last one stays."""

    def __init__(self, *channels: FakeChannel) -> None:
        self.channels = list(channels)
        self.reopened = 0
        self.prepared = lambda: None
        self.anew = asyncio.Event()

    @property
    def present(self) -> FakeChannel:
        return self.channels[min(self.reopened, len(self.channels) - 1)]

    async def channel(self) -> FakeChannel:
        if self.present.is_closed:
            await asyncio.Event().wait()  # there is none any more
        return self.present

    async def start(self, *_: object) -> None:
        self.prepared()

    async def close(self) -> None:
        self.present.close()

    def reopen(self) -> None:
        lost = self.present
        self.reopened += 1
        self.prepared()
        lost.close()
        self.anew.set()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    told = Clock()
    monkeypatch.setattr(module, "time", told)
    return told


def over(link: FakeLink) -> Publisher:
    """A publisher whose connections are these; nothing looks but the test."""
    publisher = Publisher(["amqp://127.0.0.1:1/"], TOPOLOGY)
    publisher._link = cast(Link, link)

    def prepared() -> None:
        publisher._prepared = module.time.monotonic()

    link.prepared = prepared
    prepared()
    return publisher


async def until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def look_on(publisher: Publisher, clock: Clock, seconds: float) -> None:
    """As its watch does, for so long."""
    for _ in range(int(seconds / LOOK)):
        clock.now += LOOK
        publisher._look(clock.now)
        await until_idle()


def fact(notification: str) -> Fact:
    return Fact(Kind.ACCEPTED, notification, 0, 1, {})


def published(publisher: Publisher, name: str, routing_key: str = "n.ledger") -> asyncio.Task[None]:
    return asyncio.create_task(publisher.publish(Message(b"{}", {}, message_id=name), "", routing_key))


@pytest.fixture
async def tasks() -> AsyncIterator[list[asyncio.Task[None]]]:
    """What a test began, ended with it."""
    begun: list[asyncio.Task[None]] = []
    yield begun
    for each in begun:
        each.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def test_a_forgotten_fact_for_which_all_others_wait_is_repeated_on_a_new_connection(clock: Clock) -> None:
    """One message of facts is in flight at a time, and each notification waits for its fact: nothing newer begins."""
    old, new = FakeChannel("n.ledger"), FakeChannel()
    link = FakeLink(old, new)
    publisher = over(link)
    recording = Recorder(publisher, TOPOLOGY)
    records = [asyncio.create_task(recording.record(fact("first")))]
    await until_idle()
    records += [asyncio.create_task(recording.record(fact(f"n{number}"))) for number in range(200)]
    await look_on(publisher, clock, 30)
    async with asyncio.timeout(10):
        await asyncio.gather(*records)
    assert link.reopened == 1
    (forgotten,) = old.sent_to("n.ledger")
    assert [each.message_id for each in new.sent_to("n.ledger")].count(forgotten.message_id) == 1
    assert len(new.sent_to("n.ledger")) == 2  # the one that was forgotten, and what gathered meanwhile
    await publisher.close()


async def test_a_forgotten_publish_is_found_in_a_publisher_that_has_nothing_else_to_do(clock: Clock) -> None:
    old, new = FakeChannel("n.ledger"), FakeChannel()
    link = FakeLink(old, new)
    publisher = over(link)
    quiet = published(publisher, "quiet")
    await until_idle()
    await look_on(publisher, clock, 15)
    assert link.reopened == 0
    await look_on(publisher, clock, 10)
    async with asyncio.timeout(10):
        await quiet
    assert link.reopened == 1
    assert [each.message_id for each in new.published] == ["quiet"]
    await look_on(publisher, clock, 60)
    assert link.reopened == 1
    assert len(new.published) == 1
    await publisher.close()


async def test_the_watch_finds_it_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.01)
    monkeypatch.setattr(module, "_FORGOTTEN", 0.03)
    link = FakeLink(FakeChannel("n.ledger"), FakeChannel())
    publisher = over(link)
    await publisher.start()
    async with asyncio.timeout(10):
        await published(publisher, "quiet")
    assert link.anew.is_set()
    await publisher.close()


async def test_a_broker_that_confirms_no_canary_either_is_waited_for(
    clock: Clock, tasks: list[asyncio.Task[None]]
) -> None:
    """Under a memory or disk alarm; and one canary is enough, however long it lasts."""
    channel = FakeChannel(None)
    link = FakeLink(channel)
    publisher = over(link)
    tasks.append(published(publisher, "waiting"))
    await until_idle()
    await look_on(publisher, clock, 3_600)
    assert link.reopened == 0
    assert len(channel.sent_to("n.canary")) == 1
    await publisher.close()


async def test_what_is_confirmed_soon_after_the_canary_is_not_forgotten(clock: Clock) -> None:
    """The end of an alarm: the canary needs no queue and can be confirmed before what was sent before it."""
    channel = FakeChannel(None)
    link = FakeLink(channel)
    publisher = over(link)
    late = published(publisher, "late")
    await until_idle()
    await look_on(publisher, clock, 60)
    publisher._note_confirmed(clock.now - 45)  # the canary's confirm
    await look_on(publisher, clock, LOOK)
    assert link.reopened == 0
    late.cancel()  # stands for its confirm: it is not outstanding any more
    await asyncio.wait([late])
    await look_on(publisher, clock, 60)
    assert link.reopened == 0
    await publisher.close()


async def test_a_publisher_without_anything_old_sends_no_canary(clock: Clock) -> None:
    channel = FakeChannel()
    publisher = over(FakeLink(channel))
    for number in range(100):
        await published(publisher, f"m{number}")
        await look_on(publisher, clock, LOOK)
    assert channel.sent_to("n.canary") == []


async def test_others_that_were_confirmed_tell_without_a_canary(clock: Clock) -> None:
    old, new = FakeChannel("n.ledger"), FakeChannel()
    link = FakeLink(old, new)
    publisher = over(link)
    forgotten = published(publisher, "forgotten")
    await until_idle()
    for number in range(5):
        await look_on(publisher, clock, LOOK)
        await published(publisher, f"m{number}", "n.work.0s")
    async with asyncio.timeout(10):
        await forgotten
    assert link.reopened == 1
    assert old.sent_to("n.canary") == []


async def test_new_connections_that_are_of_no_use_become_rare(
    clock: Clock, tasks: list[asyncio.Task[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """A queue without a majority: every repetition may lie there when it is back."""
    caplog.set_level(logging.WARNING)
    link = FakeLink(*(FakeChannel("n.ledger") for _ in range(100)))
    publisher = over(link)
    tasks.append(published(publisher, "slow"))
    await until_idle()
    moments, began = [], clock.now
    while clock.now - began < 3_600:
        before = link.reopened
        await look_on(publisher, clock, LOOK)
        moments += [clock.now] * (link.reopened - before)
    apart = [later - earlier for earlier, later in zip([began, *moments], moments, strict=False)]
    assert apart[0] <= 25
    assert apart[:5] == sorted(apart[:5])
    assert min(apart[4:]) >= 240
    assert sum(len(channel.sent_to("n.canary")) for channel in link.channels) <= link.reopened + 1
    await publisher.close()


async def test_a_confirm_makes_it_quick_again(clock: Clock) -> None:
    link = FakeLink(FakeChannel("n.ledger"), FakeChannel("n.ledger"), FakeChannel(), FakeChannel())
    publisher = over(link)
    first = published(publisher, "first")
    await until_idle()
    await look_on(publisher, clock, 90)
    async with asyncio.timeout(10):
        await first
    assert link.reopened == 2
    link.present.silent = ("n.ledger",)
    second = published(publisher, "second")
    await until_idle()
    await look_on(publisher, clock, 25)
    async with asyncio.timeout(10):
        await second
    assert link.reopened == 3
    await publisher.close()


async def test_a_canary_is_neither_mandatory_nor_persistent_nor_outstanding(
    clock: Clock, tasks: list[asyncio.Task[None]]
) -> None:
    channel = FakeChannel(None)
    publisher = over(FakeLink(channel))
    tasks.append(published(publisher, "waiting"))
    await until_idle()
    await look_on(publisher, clock, 30)
    (canary,) = channel.sent_to("n.canary")
    assert (canary.exchange, canary.mandatory, canary.persistent) == ("", False, False)
    assert list(publisher._unconfirmed) == ["waiting"]
    await publisher.close()


async def test_closing_does_not_wait_for_a_canary(clock: Clock, tasks: list[asyncio.Task[None]]) -> None:
    before = asyncio.all_tasks()
    channel = FakeChannel(None)
    publisher = over(FakeLink(channel))
    waiting = published(publisher, "waiting")
    tasks.append(waiting)
    await until_idle()
    await look_on(publisher, clock, 30)
    assert channel.under_way == 2
    waiting.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([waiting])
        await publisher.close()
        await publisher.close()
    assert channel.under_way == 0
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def test_without_a_connection_nothing_is_asked_and_nothing_is_forgotten(
    clock: Clock, tasks: list[asyncio.Task[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is unconfirmed is repeated on the next connection; giving that up while it is made would only delay it."""
    channel = FakeChannel("n.ledger")
    link = FakeLink(channel)
    publisher = over(link)
    tasks.append(published(publisher, "waiting"))
    await until_idle()
    await look_on(publisher, clock, 20)
    monkeypatch.setattr(FakeLink, "present", None)
    await look_on(publisher, clock, 600)
    assert link.reopened == 0
    assert len(channel.sent_to("n.canary")) == 1
    monkeypatch.undo()
    await publisher.close()


async def test_a_canary_of_a_lost_connection_does_not_keep_the_next_one_from_being_asked(
    clock: Clock, tasks: list[asyncio.Task[None]]
) -> None:
    lost, new, last = FakeChannel(None), FakeChannel("n.ledger"), FakeChannel()
    link = FakeLink(lost, new, last)
    publisher = over(link)
    waiting = published(publisher, "waiting")
    tasks.append(waiting)
    await until_idle()
    await look_on(publisher, clock, 30)
    link.reopen()  # lost for another reason
    await until_idle()
    await look_on(publisher, clock, 25)
    async with asyncio.timeout(10):
        await waiting
    assert link.reopened == 2
    assert len(new.sent_to("n.canary")) == 1
    await publisher.close()
