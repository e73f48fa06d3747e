"""How much of a merchant may be released now: breaker, window, rate; and what breakers say to other machines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from notifier.agent.allowance import PIECE, Allowance
from notifier.agent.breakers import MARGIN, PATIENCE, Breakers
from notifier.agent.sharing import LASTING, Sharing
from notifier.domain.merchant import Merchant
from notifier.domain.outcome import Outcome
from notifier.domain.probing import TURN
from notifier.ledger.holding import OnTheWay
from notifier.sections import Isolation
from tests import told
from tests.told import notification

NOW = 1_790_000_000.0
KEY = "breaker/m1"


class Stage:
    """An allowance and its clock, both of moments and of rates."""

    def __init__(self, **isolation: Any) -> None:
        self.now = NOW
        self.breakers = Breakers(lambda: self.now, 600)
        self.allowance = Allowance(Isolation(**isolation), self.breakers, lambda: self.now, lambda: self.now)

    def release(self, merchant: Merchant | None = None) -> int:
        """All that may go on at once goes on."""
        room = self.allowance.take("m1", merchant)
        self.allowance.gone("m1", room, room)
        return room


def opened(seconds: float, state: str = "open", **more: object) -> dict[str, object]:
    """By default it is the turn of what is held."""
    return {"state": state, "until": int((NOW + seconds) * 1000), "probes": 1, **more}


@pytest.mark.parametrize(
    ("merchant", "on_their_way", "room"),
    [
        pytest.param(None, 0, 20, id="of one that nobody registered: the service's"),
        pytest.param(Merchant("m1"), 5, 15, id="less what is on its way"),
        pytest.param(Merchant("m1", concurrency=3), 0, 3, id="its own"),
        pytest.param(Merchant("m1", concurrency=3), 3, 0, id="full"),
        pytest.param(Merchant("m1", concurrency=3), 7, 0, id="made smaller meanwhile"),
        pytest.param(Merchant("m1", concurrency=2000), 0, PIECE, id="a piece at a time"),
    ],
)
def test_the_window_is_what_a_tier_process_would_call_at_once(
    merchant: Merchant | None, on_their_way: int, room: int
) -> None:
    stage = Stage(concurrency=20)
    stage.allowance.begin({"m1": OnTheWay(on_their_way), "m2": OnTheWay(1000)})
    assert stage.allowance.take("m1", merchant) == room


def test_what_went_in_this_round_counts_at_once() -> None:
    stage = Stage(concurrency=20)
    stage.allowance.begin({})
    assert stage.allowance.take("m1", None) == 20
    stage.allowance.gone("m1", 20, 8)
    assert stage.allowance.take("m1", None) == 12


def test_who_has_no_room_gets_one_for_each_attempt_that_ends() -> None:
    stage = Stage(concurrency=20)
    stage.allowance.begin({})
    assert stage.release() == 20
    stage.allowance.begin({"m1": OnTheWay(0, int(NOW * 1000))})
    assert stage.release() == 0
    first = notification(merchant="m1")
    stage.allowance.heard([told.attempted(first)])
    assert stage.release() == 0, "it fails: nothing says that its next attempt would end soon"
    good = told.attempted(first, Outcome.ok())
    stage.allowance.heard([good, told.attempted(first), told.completed(first), told.attempted(first)])
    stage.allowance.heard([told.attempted(notification(merchant="m2")), told.attempted(replace(first, run=1))])
    assert (stage.release(), stage.release()) == (3, 0)


def test_windows_of_merchants_that_rest_are_forgotten_and_no_others() -> None:
    stage = Stage()
    stage.allowance.begin({})
    for number in range(1500):
        stage.allowance.take(f"m{number}", None)
    stage.now += 600
    stage.allowance.take("m1", None)
    stage.allowance.gone("m1", 20, 20)
    stage.allowance.begin({})
    assert list(stage.allowance._windows) == ["m1"]


@pytest.mark.parametrize("isolation", [{"rate": 20.0}, {}])
def test_the_rate_bounds_what_goes_each_second_and_says_when_the_next_may(isolation: dict[str, Any]) -> None:
    stage = Stage(concurrency=2000, **isolation)
    merchant = Merchant("m1", rate=None if isolation else 20.0)
    stage.allowance.begin({})
    gone = stage.release(merchant)
    assert (gone, stage.release(merchant)) == (5, 0)
    assert stage.allowance.next == pytest.approx(0.05)
    for _ in range(1000):
        stage.now += 0.03
        gone += stage.release(merchant)
    assert gone == pytest.approx(30 * 20, rel=0.1)


def test_what_could_not_go_on_takes_nothing_of_the_rate() -> None:
    stage = Stage(rate=20.0)
    stage.allowance.begin({})
    assert stage.allowance.take("m1", None) == 5
    stage.allowance.gone("m1", 5, 0)
    assert stage.allowance.take("m1", None) == 5


def test_another_rate_counts_from_now_on() -> None:
    stage = Stage(concurrency=2000)
    stage.allowance.begin({})
    assert stage.release(Merchant("m1", rate=20.0)) == 5
    assert stage.release(Merchant("m1", rate=400.0)) == 100
    assert stage.release(Merchant("m1")) == PIECE


def test_nothing_goes_while_a_breaker_is_open_and_one_probe_when_it_is_time() -> None:
    stage = Stage()
    stage.breakers.follow(KEY, opened(30))
    stage.allowance.begin({"m1": OnTheWay(7)})
    assert stage.release() == 0
    assert stage.allowance.next == pytest.approx(30 + MARGIN)
    stage.now += 30 + MARGIN
    assert [stage.release() for _ in range(3)] == [1, 0, 0], "whatever is on its way since before"
    stage.breakers.follow(KEY, opened(30))
    assert stage.release() == 0, "told again, it is not another one"
    stage.now += PATIENCE
    assert [stage.release() for _ in range(3)] == [1, 0, 0], "the first one is lost"
    stage.breakers.follow(KEY, opened(160))
    stage.now += 100
    assert stage.release() == 0, "it failed"
    stage.breakers.follow(KEY, None)
    assert stage.release() == 20 - 7 - 2


def test_where_it_is_the_turn_of_a_new_one_what_is_held_goes_a_little_later() -> None:
    stage = Stage()
    stage.breakers.follow(KEY, opened(30, probes=0))
    stage.allowance.begin({})
    stage.now += 30 + MARGIN
    assert stage.release() == 0
    stage.now += TURN
    assert [stage.release() for _ in range(3)] == [1, 0, 0]


def test_a_probe_that_could_not_be_sent_is_none() -> None:
    stage = Stage()
    stage.breakers.follow(KEY, opened(-1))
    stage.allowance.begin({})
    for _ in range(3):
        assert stage.allowance.take("m1", None) == 1
        stage.allowance.gone("m1", 1, 0)


def test_while_a_probe_of_somebody_else_is_under_way_nothing_goes_until_it_counts_as_lost() -> None:
    stage = Stage()
    stage.breakers.follow(KEY, opened(12, "half-open"))
    stage.allowance.begin({})
    stage.now += 11
    assert stage.release() == 0
    stage.now += 1 + MARGIN
    assert [stage.release(), stage.release()] == [1, 0]


def test_a_breaker_that_changes_while_its_probe_leaves_is_gone_by_as_it_is_now() -> None:
    stage = Stage()
    stage.breakers.follow(KEY, opened(-1))
    due = stage.breakers.due("m1")
    assert due is not None
    stage.breakers.follow(KEY, opened(5))
    stage.breakers.probed("m1", due)
    assert stage.breakers.due("m1") == NOW + 5 + MARGIN


@pytest.mark.parametrize("value", [True, {"state": "open"}, {"state": "open", "until": "soon"}])
def test_a_breaker_that_somebody_set_by_hand_is_tried_after_a_while(value: object) -> None:
    stage = Stage()
    stage.breakers.follow(KEY, value)
    assert stage.breakers.due("m1") == NOW + PATIENCE


def test_a_breaker_that_was_told_before_the_clock_was_set_back_is_tried_at_once() -> None:
    """As tier processes do: by their clock it may be open for ten minutes at most."""
    stage = Stage()
    stage.breakers.follow(KEY, opened(30))
    stage.now -= 3600
    stage.allowance.begin({})
    assert [stage.release(), stage.release()] == [1, 0]
    stage.now += PATIENCE
    assert stage.release() == 1, "the first one is lost"


def test_rates_of_merchants_that_rest_are_forgotten_and_no_others() -> None:
    stage = Stage(rate=20.0)
    stage.allowance.begin({})
    for number in range(1500):
        stage.allowance.take(f"m{number}", None)
    stage.now += 0.125
    stage.allowance.begin({})
    assert stage.allowance.take("m1", None) == 2
    stage.now += 1
    stage.allowance.begin({})
    assert len(stage.allowance._paces) == 0


class Fleet:
    """Takes down what is told to the other machines."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.some = asyncio.Event()

    async def tell(self, verb: str, body: Mapping[str, Any]) -> None:
        self.told.append((verb, body))
        self.some.set()


async def told_of(*changes: tuple[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What the other machines hear of these changes, the last of which must be worth it."""
    fleet = Fleet()
    sharing = Sharing("a", fleet.tell, lambda: NOW)
    for key, value in changes:
        sharing.follow(key, value)
    running = asyncio.create_task(sharing.run())
    async with asyncio.timeout(10):
        while not fleet.told or fleet.told[-1][1]["key"] != changes[-1][0]:
            fleet.some.clear()
            await fleet.some.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return fleet.told


async def test_what_a_breaker_of_this_machine_says_is_told_with_the_machine_and_for_how_long() -> None:
    assert await told_of((KEY, opened(30, tier="1s"))) == [
        (
            "push",
            {
                "key": KEY,
                "value": opened(30, tier="1s", machine="a"),
                "for": pytest.approx(30 + LASTING),
                "who": "machine a",
                "timeout": 5.0,
            },
        )
    ]
    assert await told_of((KEY, None)) == [("clear", {"key": KEY, "who": "machine a", "timeout": 5.0})]


async def test_of_several_changes_of_one_breaker_the_newest_is_told() -> None:
    told = await told_of((KEY, opened(30)), (KEY, opened(30, "half-open")), ("breaker/m2", None), (KEY, None))
    assert [(verb, body["key"]) for verb, body in told] == [("clear", "breaker/m2"), ("clear", KEY)]


async def test_what_another_machine_told_is_not_passed_on() -> None:
    told = await told_of((KEY, opened(30)), (KEY, opened(60, machine="b")), ("breaker/m2", opened(1)))
    assert [body["key"] for _, body in told] == ["breaker/m2"]
    fleet = Fleet()
    sharing = Sharing("a", fleet.tell, lambda: NOW)
    with sharing.heard("clear", {"key": KEY}):
        sharing.follow(KEY, None)
        sharing.follow("breaker/m2", None)
    sharing.follow("breaker/m3", None)
    with sharing.heard("push", {"key": KEY}):
        sharing.follow(KEY, None)  # by an operator here, while the other's word is still on its way to the processes
    assert list(sharing._news) == ["breaker/m2", "breaker/m3", KEY]
