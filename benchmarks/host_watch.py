"""Watches one core, and writes down when it stood still, and how fast it was.

    host_watch.py CORE STANDSTILLS PIECES    prints one line when it watches; then a line per finding into the files

It sleeps for a few milliseconds at a time, ahead of every ordinary process (SCHED_FIFO): when it wakes up late, no
process of this machine was in its way, but the host, which had given the core to somebody else, or stopped the machine.
That line is the two moments, Unix seconds. Ten times a second it does a small piece of work, always the same: nobody of
this machine interrupts it, so when it takes longer the core was slower, since the host shares what is below it. That
line is the moment, Unix seconds, and the microseconds. Without the right to that priority it says so and ends. It runs
by its path, as a process of its own.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import TextIO

#: Seconds of a sleep, and by how much later than that it may wake up.
NAP, GRACE = 0.004, 0.005
#: After so many sleeps a piece of work; it is done so many times, and the fastest counts: the first is done by a core
#: that has just been woken up.
_NAPS, _TIMES = 25, 5
_ROUNDS = 2000
_PRIORITY = 50


def watch(core: int, standstills: str, pieces: str) -> None:
    """Until SIGTERM, which ends the process as it does any."""
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        print("not allowed", flush=True)
        return
    gc.disable()  # nothing is made here that would need it, and a search would look like a standstill
    with open(standstills, "a", buffering=1) as stood, open(pieces, "a", buffering=1) as worked:
        print("watching", flush=True)
        while True:
            for _ in range(_NAPS):
                _nap(stood)
            took = min(_piece() for _ in range(_TIMES))
            worked.write(f"{time.time():.4f} {took * 1e6:.2f}\n")


def _nap(stood: TextIO) -> None:
    planned = time.monotonic() + NAP
    time.sleep(NAP)
    late = time.monotonic() - planned
    if late > GRACE:
        now = time.time()
        stood.write(f"{now - late:.4f} {now:.4f}\n")


def _piece() -> float:
    """Seconds that it took: about 0.00006."""
    began, number = time.perf_counter(), 0
    for each in range(_ROUNDS):
        number = (number * 31 + each) & 0xFFFF
    return time.perf_counter() - began


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2], sys.argv[3])
