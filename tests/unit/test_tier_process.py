"""How a tier process ends when it must not go on."""

from __future__ import annotations

import asyncio

import pytest

from notifier.errors import RequestFailed
from notifier.processes.tier import TierProcess
from notifier.supervision.child import Parent


def process(careful_time: asyncio.Task[None] | None) -> TierProcess:
    """Only what waits for the end: all else needs a broker."""
    process = object.__new__(TierProcess)
    process._parent = Parent(own_process=False)
    process._careful_time = careful_time
    return process


async def test_what_breaks_off_the_careful_time_ends_the_process() -> None:
    """All deliveries go there for as long as it lasts: without it they would lie there, and the slot look well."""

    async def refused() -> None:
        raise RequestFailed("the master does not know what a claim is")

    with pytest.raises(RequestFailed, match="what a claim is"):
        async with asyncio.timeout(5):
            await process(asyncio.create_task(refused()))._work()


@pytest.mark.parametrize("careful", [True, False])
async def test_the_end_of_the_careful_time_is_not_the_end_of_the_work(careful: bool) -> None:
    async def over() -> None: ...

    tier = process(asyncio.create_task(over()) if careful else None)
    working = asyncio.create_task(tier._work())
    done, _ = await asyncio.wait([working], timeout=0.1)
    assert not done
    tier._parent.draining.set()
    async with asyncio.timeout(5):
        await working
