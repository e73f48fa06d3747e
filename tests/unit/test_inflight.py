"""Adoption: which redelivery belongs to which work, and which was settled already."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from aiormq.channel import Channel

from notifier.broker.consumer import Delivery
from notifier.delivery import inflight
from notifier.delivery.inflight import InFlight, key_of
from notifier.domain.wire import Message

ORDER = Message(b'{"order":42}', {"merchant": "m1", "notification": "n1"}, "application/json", "id-1")


class Line:
    """A channel, as far as a delivery looks at it: open until it is cut."""

    def __init__(self) -> None:
        self._channel = SimpleNamespace(is_closed=False)

    def delivers(self, message: Message, *, again: bool = False) -> Delivery:
        return Delivery(message, again, cast(Channel, self._channel), 1)

    def cut(self) -> None:
        self._channel.is_closed = True


def redelivered(message: Message) -> Message:
    """As a quorum queue hands it out again."""
    return replace(message, headers={**message.headers, "x-delivery-count": 1})


def test_a_redelivery_takes_the_place_of_the_stale_delivery_of_its_work() -> None:
    in_flight, first, second = InFlight(), Line(), Line()
    work = in_flight.take(first.delivers(ORDER))
    first.cut()
    again = second.delivers(redelivered(ORDER), again=True)
    assert in_flight.adopted(again)
    assert work.delivery is again
    assert len(in_flight) == 1


def test_a_work_whose_delivery_is_alive_adopts_nothing() -> None:
    """Two copies of one message: the publisher had to repeat it."""
    in_flight, line = InFlight(), Line()
    in_flight.take(line.delivers(ORDER))
    assert not in_flight.adopted(line.delivers(redelivered(ORDER), again=True))


def test_a_first_delivery_is_never_adopted() -> None:
    in_flight, first, second = InFlight(), Line(), Line()
    in_flight.take(first.delivers(ORDER))
    first.cut()
    assert not in_flight.adopted(second.delivers(ORDER))


def test_each_stale_work_adopts_one_of_two_equal_redeliveries() -> None:
    in_flight, first, second = InFlight(), Line(), Line()
    works = [in_flight.take(first.delivers(ORDER)), in_flight.take(first.delivers(ORDER))]
    first.cut()
    came = [second.delivers(redelivered(ORDER), again=True) for _ in works]
    assert [in_flight.adopted(delivery) for delivery in came] == [True, True]
    assert {work.delivery for work in works} == set(came)
    assert not in_flight.adopted(second.delivers(redelivered(ORDER), again=True))


@pytest.mark.parametrize(
    "other",
    [
        replace(ORDER, body=b'{"order":43}'),
        replace(ORDER, headers={**ORDER.headers, "merchant": "m2"}),
        replace(ORDER, correlation_id="c-2"),
        replace(ORDER, message_id="id-2"),
    ],
    ids=["body", "header", "correlation_id", "message_id"],
)
def test_a_message_that_differs_in_anything_is_another_one(other: Message) -> None:
    """A foreign producer may put its order number into message_id, for two merchants or two events."""
    in_flight, first, second = InFlight(), Line(), Line()
    work = in_flight.take(first.delivers(ORDER))
    in_flight.remember(work)
    first.cut()
    again = second.delivers(redelivered(other), again=True)
    assert not in_flight.adopted(again)
    assert not in_flight.was_settled(again)


@pytest.mark.parametrize("message", [ORDER, replace(ORDER, message_id=None)], ids=["with an id", "without"])
def test_a_redelivered_message_keeps_its_key(message: Message) -> None:
    """The key names a message to the master, over the deaths of processes."""
    assert key_of(redelivered(message)) == key_of(message)


def test_a_key_shows_the_message_id_and_fits_a_claim() -> None:
    assert key_of(ORDER).startswith("id-1:")
    assert len(key_of(replace(ORDER, message_id="x" * 255))) < 256


def test_a_settled_message_is_known_when_it_comes_again() -> None:
    in_flight, first, second = InFlight(), Line(), Line()
    work = in_flight.take(first.delivers(ORDER))
    in_flight.remember(work)
    in_flight.drop(work)
    first.cut()
    assert in_flight.was_settled(second.delivers(redelivered(ORDER), again=True))
    assert not in_flight.was_settled(second.delivers(ORDER))  # a first delivery is another message


def test_without_a_message_id_equal_contents_prove_nothing() -> None:
    in_flight, first, second = InFlight(), Line(), Line()
    nameless = replace(ORDER, message_id=None)
    work = in_flight.take(first.delivers(nameless))
    in_flight.remember(work)
    in_flight.drop(work)
    assert not in_flight.was_settled(second.delivers(redelivered(nameless), again=True))


def test_works_are_counted_until_they_are_over() -> None:
    in_flight, line = InFlight(), Line()
    works = [in_flight.take(line.delivers(replace(ORDER, message_id=f"id-{n}"))) for n in range(3)]
    assert (len(in_flight), len(in_flight.keys)) == (3, 3)
    for work in works:
        in_flight.drop(work)
    assert (len(in_flight), in_flight.keys) == (0, [])


def test_only_the_last_settled_ones_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "_REMEMBERED", 2)
    in_flight, line = InFlight(), Line()
    messages = [replace(ORDER, message_id=f"id-{n}") for n in range(3)]
    for message in messages:
        in_flight.remember(in_flight.take(line.delivers(message)))
    known = [in_flight.was_settled(line.delivers(message, again=True)) for message in messages]
    assert known == [False, True, True]
