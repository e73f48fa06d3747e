"""What a request gave up: how long it is in the way of others, of whom, and what ends it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from notifier.api.given_up import ONE_MORE, GivenUp
from notifier.api.problems import Problem
from notifier.broker.publisher import Publisher
from notifier.domain.tier import Tier

FIRST, SECOND = Tier(1), Tier(3)


class Silent:
    """A publisher that has a connection, until it is lost."""

    def __init__(self) -> None:
        self.blocked = False
        self.connection: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked: list[asyncio.Future[None]] = []

    @property
    def ending(self) -> asyncio.Future[None] | None:
        if self.connection.done():
            return None
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connection.add_done_callback(lambda _: mine.done() or mine.set_result(None))
        self.asked.append(mine)
        return mine

    @property
    def publisher(self) -> Publisher:
        return cast(Publisher, self)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def silent() -> Silent:
    return Silent()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def given_up(clock: Clock) -> GivenUp:
    return GivenUp(clock)


def publish() -> tuple[asyncio.Event, asyncio.Task[Any]]:
    """A publish, and what confirms it."""
    confirmed = asyncio.Event()
    return confirmed, asyncio.create_task(confirmed.wait())


def refusal(given_up: GivenUp, silent: Silent, *tiers: Tier) -> str | None:
    try:
        given_up.check(silent.publisher, set(tiers))
    except Problem as problem:
        return f"{problem.status}, again after {problem.headers['Retry-After']} s: {problem.detail}"
    return None


async def test_while_the_broker_takes_nothing_everything_is_refused(given_up: GivenUp, silent: Silent) -> None:
    silent.blocked = True
    assert str(refusal(given_up, silent, FIRST)).startswith("503, again after 5 s: RabbitMQ takes nothing now")
    silent.blocked = False
    assert refusal(given_up, silent, FIRST) is None


async def test_until_it_is_confirmed_it_is_in_the_way_of_its_own_tier_only(given_up: GivenUp, silent: Silent) -> None:
    confirmed, publishing = publish()
    given_up.leave(silent.publisher, {publishing: FIRST})
    assert "does not confirm what goes to tier 1s" in str(refusal(given_up, silent, FIRST))
    assert refusal(given_up, silent, SECOND) is None
    assert refusal(given_up, silent, FIRST, SECOND) is not None
    confirmed.set()
    await publishing
    assert (refusal(given_up, silent, FIRST), len(given_up)) == (None, 0)


async def test_one_more_is_let_through_now_and_then(given_up: GivenUp, silent: Silent, clock: Clock) -> None:
    _, publishing = publish()
    given_up.leave(silent.publisher, {publishing: FIRST})
    for _ in range(3):
        clock.now += ONE_MORE - 1
        assert refusal(given_up, silent, FIRST) is not None
        clock.now += 1
        assert refusal(given_up, silent, FIRST) is None
        assert refusal(given_up, silent, FIRST) is not None
    silent.connection.set_result(None)
    await asyncio.wait([publishing])


async def test_a_request_that_is_refused_for_one_tier_is_not_the_one_more_of_another(
    given_up: GivenUp, silent: Silent, clock: Clock
) -> None:
    left = [publish()[1] for _ in range(2)]
    given_up.leave(silent.publisher, {left[0]: FIRST})
    clock.now += ONE_MORE
    given_up.leave(silent.publisher, {left[1]: SECOND})
    assert refusal(given_up, silent, FIRST, SECOND) is not None
    assert refusal(given_up, silent, FIRST) is None
    silent.connection.set_result(None)
    await asyncio.wait(left)


async def test_the_end_of_its_connection_ends_it(given_up: GivenUp, silent: Silent) -> None:
    left = [publish()[1] for _ in range(2)]
    given_up.leave(silent.publisher, dict.fromkeys(left, FIRST))
    silent.connection.set_result(None)
    await asyncio.wait(left)
    assert all(each.cancelled() for each in left)
    assert (refusal(given_up, silent, FIRST), len(given_up)) == (None, 0)


async def test_without_a_connection_it_is_not_on_its_way(given_up: GivenUp, silent: Silent) -> None:
    silent.connection.set_result(None)
    _, publishing = publish()
    given_up.leave(silent.publisher, {publishing: FIRST})
    assert refusal(given_up, silent, FIRST) is None
    await asyncio.wait([publishing])
    assert publishing.cancelled()


async def test_nothing_of_what_was_confirmed_is_kept_while_the_connection_lives(
    given_up: GivenUp, silent: Silent
) -> None:
    given_up.leave(silent.publisher, {})
    assert silent.asked == []
    confirmed, publishing = publish()
    given_up.leave(silent.publisher, {publishing: FIRST})
    confirmed.set()
    await asyncio.wait(silent.asked)
    assert publishing.done()
    assert not publishing.cancelled()
