"""Slot by slot: a restart under way, and a drain that is meant to last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from notifier.supervision.departure import Limits
from notifier.supervision.slot import Slot, State

#: Waits until something is so, at most so many seconds; says whether it is.
Until = Callable[[Callable[[], bool], float], Awaitable[bool]]

#: Seconds beyond all deadlines, for the deadlines' own work.
SLACK = 5.0


async def restart(slots: Sequence[Slot], why: str, limits: Limits, until: Until) -> list[dict[str, Any]]:
    """Each is ready again before the next one is touched. After one that is not, the others are left alone."""
    results: list[dict[str, Any]] = []
    halted_by = None
    for slot in slots:
        if halted_by is not None:
            results.append({"slot": slot.name, "result": "untouched", "error": f"{halted_by} did not become ready"})
            continue
        results.append(await _restart(slot, why, limits, until))
        if results[-1]["result"] != "restarted":
            halted_by = slot.name
    return results


async def drain(slots: Sequence[Slot], limits: Limits, until: Until) -> list[dict[str, Any]]:
    """Let all of these finish at the same time; no one is started there any more."""
    for slot in slots:
        slot.hold()
    done = asyncio.gather(*(until(lambda s=slot: s.state is State.STOPPED, _leaving(limits)) for slot in slots))  # type: ignore[misc]
    return [
        {"slot": slot.name, "result": "drained" if drained else "timeout"}
        for slot, drained in zip(slots, await done, strict=True)
    ]


async def _restart(slot: Slot, why: str, limits: Limits, until: Until) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    began, before = loop.time(), slot.epoch
    slot.restart(why)
    if not await until(lambda: slot.epoch > before and slot.is_working, _leaving(limits) + limits.start):
        return {"slot": slot.name, "result": "timeout", "error": f"{slot.name} is {slot.state}, not ready again"}
    seconds = round(loop.time() - began, 3)
    return {"slot": slot.name, "result": "restarted", "epoch": slot.epoch, "pid": slot.pid, "seconds": seconds}


def _leaving(limits: Limits) -> float:
    return limits.drain + limits.term + SLACK
