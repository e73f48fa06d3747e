"""Running the user's own code within a time, whatever it does with its cancellation."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Coroutine
from typing import Any

_cut_off: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


async def bounded(work: Coroutine[Any, Any, Any], seconds: float) -> Any:
    """Its result. Raises TimeoutError when it is not over in time, also if it holds on against its cancellation."""
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        _cut(task)
        raise
    if not done:
        _cut(task)
        raise TimeoutError
    if task.cancelled():  # by itself: no cancellation of ours
        raise RuntimeError("it cancelled itself")
    return task.result()


def _cut(task: asyncio.Task[Any]) -> None:
    task.cancel()
    _cut_off.add(task)
    task.add_done_callback(lambda over: over.cancelled() or over.exception())  # nobody waits for it any more


def holding_on() -> bool:
    """Whether something that was cut runs on all the same; an event loop would wait for it at its end."""
    return any(not task.done() for task in _cut_off)
