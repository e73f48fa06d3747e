"""Faults of what a process lives on: descriptors, the event loop, and the directory in which it writes."""

from __future__ import annotations

import asyncio
import itertools
import resource
import time

from tests.faults.around import limited
from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.load import HANG
from tests.faults.service import TIERS
from tests.faults.verdict import Window

#: Seconds without a free descriptor: one attempt of three may be spoiled.
SCARCE = 1.5
#: Descriptors fewer than a tier process has open.
_FEW = 8
#: Seconds for which an event loop is blocked.
BLOCKED = 5.0
#: Callbacks at once.
_AT_ONCE = 180


async def descriptors_used_up(field: Field, number: int) -> Window:
    """A tier process can open nothing more, and has far more to call at once than it has connections."""
    pid = await field.service.pid(TIERS[0])
    began = time.time() * 1000
    with limited(pid, resource.RLIMIT_NOFILE, _FEW):
        await field.load.burst([HANG] * _AT_ONCE)
        await asyncio.sleep(SCARCE)  # the length of the shortage is what is tested
    ended = time.time() * 1000
    field.receiver.let_go()
    await field.calm()
    field.receiver.let_go()
    if not await field.books.count(
        f"SELECT count(*) FROM attempts WHERE detail LIKE '%no file descriptor%' AND started >= {int(began)}"
    ):
        raise DidNotBite("no attempt failed for want of a descriptor")
    return Window(began, ended, time.time() * 1000)


async def loop_blocked(field: Field, number: int) -> Window:
    """A user's extension works for five seconds without giving the event loop back."""
    slot = TIERS[number % 2]
    standing, began = await field.service.until(slot, state="ready"), time.time() * 1000
    answer = await field.service.operator.ask("send", {"to": slot, "action": "faults.block", "data": BLOCKED})
    ended = time.time() * 1000
    if ended - began < 1000 * BLOCKED or answer["replies"][0]["data"] != "over":
        raise DidNotBite(f"the block ended after {(ended - began) / 1000:.1f} s: {answer}")
    attempts = (1,) if slot == TIERS[0] else (2, 3)
    came = [arrival.moment for arrival in field.receiver.arrivals[-10_000:] if arrival.attempt in attempts]
    within = [began, *sorted(moment for moment in came if began < moment < ended), ended]
    if max(after - before for before, after in itertools.pairwise(within)) < 1000 * BLOCKED - 500:
        raise DidNotBite(f"{slot} went on to deliver")
    after = await field.service.until(slot, state="ready")
    if after["epoch"] != standing["epoch"]:
        raise AssertionError(f"{slot} was restarted for a block of {BLOCKED:g} s: {after['reason']}")
    # no spans: what was in its hands is so for all of it; a callback that was connecting meanwhile is timed out by it
    return Window(began, ended, ended)


async def runtime_directory_full(field: Field, number: int) -> Window:
    """What operators want cannot be written down: it is live all the same, says so, and is kept when there is room."""
    assert field.around.small is not None
    operator = field.service.operator
    key = {"key": f"faults/{number}", "value": {"long": "x" * 20_000}}
    field.around.small.fill()
    try:
        answer = await operator.ask("push", key)
        if answer["saved"]:
            raise DidNotBite("what was pushed was saved in a directory without room")
        if any(slot["result"] != "applied" for slot in answer["slots"]):
            raise AssertionError(f"what could not be saved is not live either: {answer}")
        killed, restored = await field.service.kill(TIERS[number % 2])
    finally:
        field.around.small.free()
    again = await operator.ask("push", {"key": "faults/after", "value": number})
    if not again["saved"]:
        raise AssertionError("there is room again, and what operators want is not kept")
    kept = {entry["key"] for entry in (await operator.ask("state"))["entries"]}
    if key["key"] not in kept:
        raise AssertionError("what was pushed while there was no room is forgotten")
    return Window(killed, killed, restored)
