"""Faults of the other processes: master, agent, API; the end of the whole service; processes that stand still."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.errors import DidNotBite
from tests.faults.fault import Strike
from tests.faults.field import Field
from tests.faults.http_load import PRODUCERS, HttpLoad
from tests.faults.service import TIERS
from tests.faults.verdict import Window

#: Seconds that a process stands still: longer than the master's patience with one that hangs, 30 s.
STILL = 40.0
#: Seconds after which a process surely stands still, and before which the master surely has not replaced it.
_SURE, _PATIENCE = 1.0, 28.0
#: Seconds for some requests to be answered.
_REQUESTS = 30.0


async def agent_killed(field: Field, number: int) -> Window:
    """kill -9 of the agent."""
    began, restored = await field.service.kill("agent")
    return Window(began, began, restored, relayed=True)


async def api_killed(field: Field, number: int) -> Window:
    """kill -9 of the API, under requests with an Idempotency-Key that are made again until they are answered."""
    requests = HttpLoad(field.load, field.service.dashboard)
    async with requests.flowing():
        await requests.until(lambda: requests.accepted >= 2 * PRODUCERS, _REQUESTS)
        began, restored = await field.service.kill("api")
        before = requests.accepted
        await requests.until(lambda: requests.accepted >= before + 2 * PRODUCERS, _REQUESTS)
    if not requests.broken:
        raise DidNotBite("no request met the death of the API")
    return Window(began, began, restored)


async def master_killed(field: Field, number: int) -> Window:
    """kill -9 of the master; its children end by themselves, and the service is started again."""
    began = time.time() * 1000
    await field.service.killed()
    ended = time.time() * 1000
    await field.service.start()
    # no spans: until then its children end by themselves, each when it sees fit
    return Window(began, ended, time.time() * 1000)


async def service_ended(field: Field, number: int) -> Window:
    """SIGTERM to the service under load: it drains and exits 0; then it is started again."""
    began = time.time() * 1000
    code = await field.service.stop()
    if code != 0:
        raise AssertionError(f"SIGTERM under load: the service exited with {code}")
    ended = time.time() * 1000
    await field.service.start()
    # no spans: until then it drains, and gives back what it could not settle
    return Window(began, ended, time.time() * 1000)


def stood_still(*groups: Sequence[str]) -> Strike:
    """SIGSTOP to the processes of a group at once, SIGCONT after a while; the groups in turn. `master` is the master.

    What stands still for longer than the master has patience is replaced meanwhile. What was in hand when it was
    stopped is all that is broken then: it takes nothing more, and what replaces it is whole. What was not replaced goes
    on with connections that may be dead by then, which is a second moment.
    """

    async def strike(field: Field, number: int) -> Window:
        slots = groups[number % len(groups)]
        pids = [field.service.master if slot == "master" else await field.service.pid(slot) for slot in slots]
        began, came = time.time() * 1000, len(field.receiver.arrivals)
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            spans = [(began, time.time() * 1000)]
            await asyncio.sleep(_SURE)
            if not all(_is_stopped(pid) for pid in pids):
                raise DidNotBite(f"not all of {slots} stand still")
            await asyncio.sleep(STILL - _SURE)  # the length of the standstill is what is tested
        finally:
            going_on, replaced = time.time() * 1000, 0
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    replaced += 1
        if replaced < len(pids):
            spans.append((going_on, time.time() * 1000))
        ended = time.time() * 1000
        meanwhile = (began + 1000 * _SURE, began + 1000 * _PATIENCE)
        if set(TIERS) <= set(slots) and any(
            meanwhile[0] < arrival.moment < meanwhile[1] for arrival in field.receiver.arrivals[came:]
        ):
            raise DidNotBite("requests came while all tier processes stood still")
        await field.service.ready()
        return Window(began, ended, time.time() * 1000, spans=tuple(spans), relayed="agent" in slots)

    return strike


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
