"""A listener of the stream of attempts: what it hears, in which form, and what it misses."""

from __future__ import annotations

import json

from notifier.api.stream import MOST_WAITING, Listener


def attempt(seq: int, merchant: str = "shop-7") -> dict[str, object]:
    return {"seq": seq, "merchant": merchant}


async def test_a_listener_hears_what_it_asked_for_in_order() -> None:
    listener = Listener("shop-7")
    for each in (attempt(1), attempt(2, "shop-8"), attempt(3)):
        listener.hear(each)
    one, three = (f'id: {n}\nevent: attempt\ndata: {{"seq":{n},"merchant":"shop-7"}}\n\n' for n in (1, 3))
    assert await listener.next() == one + three


async def test_a_listener_that_is_too_slow_is_told_how_many_it_missed_once() -> None:
    listener = Listener(None)
    for number in range(MOST_WAITING + 7):
        listener.hear(attempt(number))
    *heard, missed = (await listener.next()).strip().split("\n\n")
    assert len(heard) == MOST_WAITING
    assert missed == 'event: missed\ndata: {"attempts":7}'
    listener.hear(attempt(0))
    assert "missed" not in await listener.next()


async def test_a_line_break_in_what_a_merchant_said_cannot_become_another_event() -> None:
    listener = Listener(None)
    listener.hear({**attempt(1), "detail": "a\n\nevent: attempt\ndata: {}"})
    event = await listener.next()
    assert event.count("\n\n") == 1
    assert json.loads(event.split("data: ", 1)[1])["detail"] == "a\n\nevent: attempt\ndata: {}"


async def test_one_that_is_ended_is_woken_without_anything() -> None:
    listener = Listener(None)
    listener.end()
    assert await listener.next() == ""
