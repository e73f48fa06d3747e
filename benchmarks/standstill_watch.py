"""Watches one core, and writes down when it stood still.

    standstill_watch.py CORE FILE    prints one line when it watches; a line per standstill into FILE

It sleeps for a few milliseconds at a time, ahead of every ordinary process (SCHED_FIFO): when it wakes up late, no
process of this machine was in its way, but the host, which had given the core to somebody else, or stopped the machine.
A line is the two moments, Unix seconds. Without the right to that priority it says so and ends. It runs by its path, as
a process of its own.
"""

from __future__ import annotations

import gc
import os
import sys
import time

#: Seconds of a sleep, and by how much later than that it may wake up.
NAP, GRACE = 0.004, 0.005
_PRIORITY = 50


def watch(core: int, file: str) -> None:
    """Until SIGTERM, which ends the process as it does any."""
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        print("not allowed", flush=True)
        return
    gc.disable()  # nothing is made here that would need it, and a search would look like a standstill
    with open(file, "a", buffering=1) as told:
        print("watching", flush=True)
        while True:
            planned = time.monotonic() + NAP
            time.sleep(NAP)
            late = time.monotonic() - planned
            if late > GRACE:
                now = time.time()
                told.write(f"{now - late:.4f} {now:.4f}\n")


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2])
