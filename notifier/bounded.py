"""Running the user's own code within a time, whatever it does with its cancellation."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_cut_off: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


class HoldingOn(TimeoutError):
    """It was cancelled, got the time to end, and goes on."""


class CancelledItself(RuntimeError):
    """It ended by a cancellation that nobody else made."""


async def bounded(work: Coroutine[Any, Any, T], seconds: float, grace: float = 0.0) -> T:
    """Its result. Raises TimeoutError when it is not over in time, also if it holds on against its cancellation.

    grace: seconds for it to end, once it is cancelled by the time or by whoever waits here. If it was the time, what it
    returns by then counts; it is left behind after that, and HoldingOn says so. Raises CancelledItself if it did.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        await _cut(task, grace)
        raise
    if not done:
        await _cut(task, grace)
        if not task.done():
            raise HoldingOn if grace else TimeoutError
        if task.cancelled():
            raise TimeoutError
    elif task.cancelled():  # no cancellation of ours
        raise CancelledItself("it cancelled itself")
    return task.result()


async def _cut(task: asyncio.Task[Any], grace: float) -> None:
    task.cancel()
    _cut_off.add(task)
    task.add_done_callback(lambda over: over.cancelled() or over.exception())  # nobody waits for it any more
    if grace:
        await asyncio.wait([task], timeout=grace)


def holding_on() -> bool:
    """Whether something that was cut runs on all the same; an event loop would wait for it at its end."""
    return any(not task.done() for task in _cut_off)
