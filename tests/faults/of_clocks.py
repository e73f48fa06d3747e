"""Faults of the wall clock: it is set by an hour, in one process, and after a while set right again."""

from __future__ import annotations

import asyncio
import time

from tests.faults.field import Field
from tests.faults.verdict import Window

#: Whose clock, and by how many seconds, in turn.
STEPS = tuple((slot, hour) for slot in ("tier:1s", "tier:2s", "agent", "master") for hour in (3600.0, -3600.0))
#: Seconds for which it is wrong.
WRONG = 5.0
#: Which attempts a tier process makes; those of the others are made without them.
_ATTEMPTS = {"tier:1s": (1,), "tier:2s": (2,)}
#: Milliseconds of lateness that nothing here has, unless a clock is believed that is wrong by an hour.
_ABSURD = 1_800_000


async def stepped(field: Field, number: int) -> Window:
    """One process's clock is wrong for a while. Its deliveries go on, and nothing is told to be late by an hour."""
    world = field.around.world
    assert world is not None
    slot, hour = STEPS[number % len(STEPS)]
    pid = field.service.master if slot == "master" else await field.service.pid(slot)
    errors, began = await _clock_errors(field), time.time() * 1000
    world.set_clock(pid, hour)
    try:
        await world.looked_at(pid)
        came = len(field.receiver.arrivals)
        await asyncio.sleep(WRONG)  # how long it is wrong is what is tested
        served = _ATTEMPTS.get(slot, (1, 2))
        for attempt in served:
            if not any(arrival.attempt == attempt for arrival in field.receiver.arrivals[came:]):
                raise AssertionError(
                    f"no attempt {attempt} was made while the clock of {slot} was wrong by {hour:+.0f} s"
                )
    finally:
        world.set_clock(pid, 0)
    ended = time.time() * 1000
    if slot.startswith("tier"):
        await _counted(field, errors)
    absurd = await field.books.rows(f"SELECT tier, late_ms FROM attempts WHERE late_ms > {_ABSURD} LIMIT 3")
    if absurd:
        raise AssertionError(f"the clock of {slot} was wrong by {hour:+.0f} s, and the ledger says late by {absurd}")
    return Window(began, began, ended, shifted=True)


async def _clock_errors(field: Field) -> int:
    slots = (await field.service.slots()).values()
    return sum(slot["statistics"].get("clock_errors", 0) for slot in slots)


async def _counted(field: Field, before: int) -> None:
    """Wait for a heartbeat that counts the attempts whose lateness could not be believed."""
    try:
        async with asyncio.timeout(10):
            while await _clock_errors(field) <= before:  # noqa: ASYNC110  it comes by heartbeat
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError("no clock error was counted") from None
