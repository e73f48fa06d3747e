"""A change of the desired state, and for each slot whether it is in force there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from notifier.errors import BadState, PeerGone
from notifier.supervision.desired import Entry
from notifier.supervision.incarnation import Incarnation
from notifier.supervision.slot import Slot

#: Seconds for a killed process to be gone.
DEATH = 5.0


async def reach(slots: Sequence[Slot], entry: Entry, *, timeout: float, critical: bool) -> list[dict[str, Any]]:
    """Bring the entry, which is in the desired state already, to all processes.

    critical: a process that does not answer within `timeout` seconds is killed and started again, which is over before
    this returns; so afterwards no process is left that works by the old state.
    """
    for slot in slots:
        if slot.child is not None:
            slot.child.feed.poke()
    return list(await asyncio.gather(*(_reached(slot, entry, timeout, critical) for slot in slots)))


async def _reached(slot: Slot, entry: Entry, timeout: float, critical: bool) -> dict[str, Any]:
    child = slot.child
    here = {"slot": slot.name, "epoch": slot.epoch}
    if child is None or not child.joined:  # the next one, or this one, gets the whole state before it does anything
        return {**here, "result": "gone"}
    try:
        async with asyncio.timeout(timeout):
            return {**here, "result": "applied", "version": await child.feed.reached(entry.key, entry.version)}
    except BadState as error:
        return {**here, "result": "error", "error": str(error)}
    except PeerGone:
        return {**here, "result": "gone"}
    except TimeoutError:
        return {**here, "result": "timeout", "restarted": critical and await _replaced(slot, child, entry, timeout)}


async def _replaced(slot: Slot, child: Incarnation, entry: Entry, timeout: float) -> bool:
    slot.condemn(child.epoch, f"did not apply {entry.key!r} within {timeout:g} s")
    try:
        async with asyncio.timeout(DEATH):
            await child.over.wait()
    except TimeoutError:
        return False
    return True
