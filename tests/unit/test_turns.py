"""Turns: at most so many callbacks at once; the others wait, in order, and can be sent away."""

from __future__ import annotations

import asyncio

from notifier.delivery.turns import Turns


async def waiting(turns: Turns, count: int) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(turns.mine()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def state(tasks: list[asyncio.Task[bool]]) -> str:
    return "".join("-" if not task.done() else "x" if task.cancelled() else "01"[task.result()] for task in tasks)


async def test_without_a_bound_everyone_has_a_turn_at_once() -> None:
    assert state(await waiting(Turns(), 50)) == "1" * 50


async def test_beyond_the_bound_they_wait_in_their_order() -> None:
    turns = Turns()
    turns.limit(2)
    tasks = await waiting(turns, 4)
    assert state(tasks) == "11--"
    turns.over()
    await asyncio.sleep(0)
    assert state(tasks) == "111-"
    turns.limit(3)
    await asyncio.sleep(0)
    assert state(tasks) == "1111"


async def test_a_lower_bound_lets_what_runs_finish_first() -> None:
    turns = Turns()
    running = await waiting(turns, 3)
    turns.limit(1)
    (late,) = await waiting(turns, 1)
    for _ in running[:2]:
        turns.over()
        await asyncio.sleep(0)
        assert not late.done()
    turns.over()
    assert await late is True


async def test_those_sent_away_have_no_turn_and_leave_room() -> None:
    turns = Turns()
    turns.limit(1)
    first, *others = await waiting(turns, 3)
    turns.send_away()
    await asyncio.sleep(0)
    assert state([first, *others]) == "100"
    turns.over()
    assert await turns.mine() is True


async def test_a_turn_that_comes_together_with_a_cancellation_passes_to_the_next() -> None:
    turns = Turns()
    turns.limit(1)
    _, cancelled, last = await waiting(turns, 3)
    turns.over()
    cancelled.cancel()
    assert await last is True
    assert cancelled.cancelled()


async def test_who_is_cancelled_while_waiting_takes_no_turn() -> None:
    turns = Turns()
    turns.limit(1)
    _, cancelled, last = await waiting(turns, 3)
    cancelled.cancel()
    await asyncio.sleep(0)
    turns.over()
    assert await last is True
