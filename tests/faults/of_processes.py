"""Faults of the other processes: master, agent, API; the end of the whole service; processes that stand still."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tests.faults.errors import DidNotBite
from tests.faults.fault import Strike
from tests.faults.field import Field
from tests.faults.service import TIERS
from tests.faults.verdict import Window

#: Seconds that a process stands still: longer than the master's patience with one that hangs, 30 s.
STILL = 40.0


async def agent_killed(field: Field, number: int) -> Window:
    """kill -9 of the agent."""
    began, restored = await field.service.kill("agent")
    return Window(began, began, restored)


async def api_killed(field: Field, number: int) -> Window:
    """kill -9 of the API."""
    began, restored = await field.service.kill("api")
    return Window(began, began, restored)


async def master_killed(field: Field, number: int) -> Window:
    """kill -9 of the master; its children end by themselves, and the service is started again."""
    began = time.time() * 1000
    await field.service.killed()
    ended = time.time() * 1000
    await field.service.start()
    return Window(began, ended, time.time() * 1000)


async def service_ended(field: Field, number: int) -> Window:
    """SIGTERM to the service under load: it drains and exits 0; then it is started again."""
    began = time.time() * 1000
    code = await field.service.stop()
    if code != 0:
        raise AssertionError(f"SIGTERM under load: the service exited with {code}")
    ended = time.time() * 1000
    await field.service.start()
    return Window(began, ended, time.time() * 1000)


def stood_still(*slots: str) -> Strike:
    """SIGSTOP to these processes at once, SIGCONT after a while; `master` is the master itself."""

    async def strike(field: Field, number: int) -> Window:
        pids = [field.service.master if slot == "master" else await field.service.pid(slot) for slot in slots]
        began, came = time.time() * 1000, len(field.receiver.arrivals)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(STILL)  # the length of the standstill is what is tested
        gone = []
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                gone.append(pid)
        ended = time.time() * 1000
        _bit(slots, began, ended, [each.moment for each in field.receiver.arrivals[came:]], gone)
        await field.service.ready()
        return Window(began, ended, time.time() * 1000)

    return strike


def _bit(slots: tuple[str, ...], began: float, ended: float, moments: list[float], gone: list[int]) -> None:
    """Of a tier process: the master took it for hung and replaced it, or nothing came."""
    if not any(slot in TIERS for slot in slots) or gone:
        return
    if any(began + 2000 < moment < ended - 500 for moment in moments) and set(slots) >= set(TIERS):
        raise DidNotBite("requests came while both tier processes stood still")
