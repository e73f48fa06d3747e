"""How a notification comes in: what is refused with which words, and when it counts as accepted."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology, Way
from notifier.delivery import acceptance
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.domain import wire
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.wire import Message
from notifier.errors import InvalidLadder, InvalidNotification, Unroutable
from notifier.settings import Settings

SETTINGS = Settings.received({"ladder": "1s,3s,5s", "ladders": {"slow": "5s,1m"}, "payload_limit": 100})
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOW = 1_800_000_000.25


def composed(**stated: Any) -> Notification:
    return compose(SETTINGS, **{"merchant": "m1", "payload": b"{}", **stated})


# compose


def test_the_least_that_is_stated_gets_an_id_and_the_default_ladder() -> None:
    notification = composed()
    assert notification.id.startswith("ntf_")
    assert notification == Notification(
        id=notification.id, merchant="m1", payload=b"{}", ladder=Ladder.parse("1s,3s,5s")
    )


def test_two_notifications_get_two_ids() -> None:
    assert composed().id != composed().id


def test_everything_that_is_stated_is_kept() -> None:
    assert composed(
        url="https://shop.example/paid",
        ladder="slow",
        notification_id="order_42",
        reference="order 42",
        content_type="text/plain",
        traceparent=TRACE,
    ) == Notification(
        id="order_42",
        merchant="m1",
        payload=b"{}",
        content_type="text/plain",
        url="https://shop.example/paid",
        ladder=Ladder.parse("5s,1m"),
        reference="order 42",
        traceparent=TRACE,
    )


def test_a_payload_of_exactly_the_limit_is_accepted() -> None:
    assert len(composed(payload=b"x" * 100).payload) == 100


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"merchant": ""}, "'' is not a merchant id"),
        ({"merchant": " m1"}, "' m1' is not a merchant id"),
        ({"merchant": "m\n1"}, "is not a merchant id"),
        ({"merchant": "m" * 129}, "is not a merchant id: 1 to 128 characters"),
        ({"merchant": "x/../y"}, "'x/../y' is not a merchant id: no part of it between slashes may be . or .."),
        ({"payload": b"x" * 101}, "the payload holds 101 bytes; at most 100 are accepted (NOTIFIER_PAYLOAD_LIMIT)"),
        ({"url": "shop.example/paid"}, "it must start with https:// or http://"),
        ({"url": "ftp://shop.example"}, "it must start with https:// or http://"),
        ({"url": "https://"}, "it names no host"),
        ({"url": "https://user:secret@shop.example"}, "user name or password"),
        ({"url": "https://shop.example/a b"}, "it holds a blank"),
        ({"url": "https://shop.example:99999/"}, "is not a url"),
        ({"notification_id": "a b"}, "'a b' is not a notification id: 1 to 128 characters of A-Z a-z 0-9 _ - "),
        ({"notification_id": ""}, "'' is not a notification id"),
        ({"notification_id": "x" * 129}, "is not a notification id"),
        ({"reference": ""}, "'' is not a reference"),
        ({"reference": "r" * 257}, "is not a reference: 1 to 256 characters"),
        ({"traceparent": "00-abc"}, "'00-abc' is not a W3C traceparent"),
        ({"content_type": "text/plain\r\nx-mine: 1"}, "is not a content type"),
        ({"content_type": ""}, "'' is not a content type"),
        ({"content_type": "t" * 129}, "is not a content type: 1 to 128 printable ASCII characters"),
    ],
)
def test_what_cannot_be_accepted_is_named(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidNotification) as refused:
        composed(**stated)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("egress", "url", "said"),
    [
        ({"https_only": True}, "http://shop.example/", "callbacks go to https:// only (NOTIFIER_EGRESS__HTTPS_ONLY)"),
        (
            {"ports": "443,8000-8999"},
            "https://shop.example:22/",
            "callbacks go to port 443, 8000-8999 only, not 22 (NOTIFIER_EGRESS__PORTS)",
        ),
    ],
)
def test_a_url_that_the_settings_do_not_let_be_called_is_refused_and_no_other(
    egress: dict[str, Any], url: str, said: str
) -> None:
    settings = Settings.received({"egress": egress})
    with pytest.raises(InvalidNotification) as refused:
        compose(settings, merchant="m1", payload=b"{}", url=url)
    assert str(refused.value) == f"the url cannot be used: {said}"
    assert compose(settings, merchant="m1", payload=b"{}", url="https://shop.example/").url
    assert compose(settings, merchant="m1", payload=b"{}").url is None


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(InvalidNotification) as refused:
        composed(url="https://user:secret@shop.example")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("ladder", "said"),
    [
        ("1s,7s,9s", "ladder 1s,7s,9s names 7s, 9s, which no process serves; configured tiers: 1s, 3s, 5s, 1m"),
        ("1s,x", "tier 2 of ladder '1s,x'"),
        ("quick", "'quick'"),
        ("", "''"),
    ],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(ladder: str, said: str) -> None:
    with pytest.raises(InvalidLadder) as refused:
        composed(ladder=ladder)
    assert said in str(refused.value)


# Entrance


class Broker:
    """A publisher that confirms when the test says so."""

    def __init__(self) -> None:
        self.published: list[tuple[Way, Message]] = []
        self.confirming = asyncio.Event()
        self.confirming.set()
        self.refusal: Exception | None = None

    async def publish_by(self, way: Way, message: Message) -> None:
        self.published.append((way, message))
        await self.confirming.wait()
        if self.refusal:
            raise self.refusal


class Facts:
    """A recorder that keeps what it is told, and confirms when the test says so."""

    def __init__(self) -> None:
        self.told: list[Fact] = []
        self.confirming = asyncio.Event()
        self.confirming.set()

    async def record(self, *facts: Fact) -> None:
        self.told += facts
        await self.confirming.wait()


def entrance(broker: Broker, facts: Facts) -> Entrance:
    topology = Topology("n", SETTINGS.tiers)
    return Entrance(topology, cast(Publisher, broker), cast(Recorder, facts), clock=lambda: NOW)


async def until_idle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_accepted_one_is_published_to_its_first_tier_with_its_moments() -> None:
    broker = Broker()
    accepted = await entrance(broker, Facts()).accept(composed())
    assert (accepted.enqueued_at, accepted.due_at) == (1_800_000_000_250, 1_800_000_001_250)
    ((way, message),) = broker.published
    assert way == Way("n.wait", "1s")
    assert wire.read(message) == accepted


async def test_it_is_accepted_only_after_the_confirm() -> None:
    broker, facts = Broker(), Facts()
    broker.confirming.clear()
    accepting = asyncio.create_task(entrance(broker, facts).accept(composed()))
    await until_idle()
    assert broker.published
    assert not accepting.done()
    assert not facts.told
    broker.confirming.set()
    await accepting


async def test_a_refusal_reaches_the_producer_and_no_fact_claims_otherwise() -> None:
    broker, facts = Broker(), Facts()
    broker.refusal = Unroutable("no queue")
    door = entrance(broker, facts)
    with pytest.raises(Unroutable):
        await door.accept(composed())
    await door.flush()
    assert facts.told == []


async def test_the_accepted_fact_is_told_and_nobody_waits_for_it() -> None:
    facts = Facts()
    facts.confirming.clear()
    door = entrance(Broker(), facts)
    accepted = await door.accept(composed())
    await until_idle()
    ((kind, notification),) = [(told.kind, told.notification) for told in facts.told]
    assert (kind, notification) == (Kind.ACCEPTED, accepted.id)
    flushing = asyncio.create_task(door.flush())
    await until_idle()
    assert not flushing.done()
    facts.confirming.set()
    await asyncio.wait_for(flushing, 1)


async def test_a_producer_faster_than_the_ledger_queue_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance, "_MOST_UNTOLD", 3000)
    broker, facts = Broker(), Facts()
    facts.confirming.clear()
    door = entrance(broker, facts)
    for _ in range(3):
        await door.accept(composed())
    late = asyncio.create_task(door.accept(composed()))
    await until_idle()
    assert len(broker.published) == 3
    facts.confirming.set()
    await asyncio.wait_for(late, 1)
    assert len(broker.published) == 4


async def test_each_publish_has_a_message_id_of_its_own_and_all_of_one_notification_its_id() -> None:
    broker = Broker()
    door = entrance(broker, Facts())
    notification = composed(notification_id="n1")
    await door.accept(notification)
    await door.accept(notification)  # its first answer was lost on the way to the producer
    messages = [message for _, message in broker.published]
    assert len({message.message_id for message in messages}) == 2
    assert {message.headers["notification"] for message in messages} == {"n1"}
