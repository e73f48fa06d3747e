"""What is released and replayed: so many a second, and evenly."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier.agent.pace import Pace


async def test_what_may_go_at_once_goes_one_after_the_other_in_the_order_in_which_it_came() -> None:
    pace, gone = Pace(100.0), []

    async def go(number: int) -> None:
        await pace.turn()
        gone.append((number, time.monotonic()))

    assert pace.take(25) == 25
    await asyncio.gather(*(go(number) for number in range(25)))
    assert [number for number, _ in gone] == list(range(25))
    assert gone[-1][1] - gone[0][1] >= 24 * 0.008 - 0.001


async def test_thousands_a_second_do_not_wait_for_the_grain_of_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [10.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(10_000.0, clock=lambda: now[0])
    for _ in range(1000):
        await pace.turn()
    assert sum(slept) == pytest.approx(0.08, rel=0.05)
    assert len(slept) < 100


async def test_after_a_rest_the_first_does_not_wait_and_the_next_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [10.0], []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now[0] += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = Pace(10.0, clock=lambda: now[0])
    await pace.turn()
    await pace.turn()
    now[0] += 0.05
    await pace.turn()
    now[0] += 10.0
    await pace.turn()
    await pace.turn()
    assert slept == [0.08, 0.03, 0.08]
