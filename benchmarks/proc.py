"""What processes cost, as the kernel tells it in /proc."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkFailed

_TICK = 1 / os.sysconf("SC_CLK_TCK")
#: Processes are at rest when none of them spent a tick of CPU (10 ms) in so many looks in a row, so many seconds apart.
_LOOKS, _APART = 6, 0.05
_PATIENCE = 5.0


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time that these processes spent so far, all their threads. Resolution 10 ms."""
    return sum(_spent(pid) for pid in pids)


async def cpu_seconds_at_rest(pids: Sequence[int]) -> float:
    """The same once they came to rest: what a worker does after the last arrival belongs to it.

    Nothing outside a process says that it is done, so it is looked at a few times; at most 5 s, for a heartbeat of
    its own may come between.
    """
    spent, quiet, deadline = cpu_seconds(pids), 0, time.monotonic() + _PATIENCE
    while quiet < _LOOKS and time.monotonic() < deadline:
        await asyncio.sleep(_APART)
        before, spent = spent, cpu_seconds(pids)
        quiet = quiet + 1 if spent == before else 0
    return spent


def pss_megabytes(pid: int) -> float:
    """Proportional set size: what is shared with other processes counts by its share. In 10^6 bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024 / 1e6
    raise OSError(f"/proc/{pid}/smaps_rollup tells no Pss")


def children(pid: int) -> list[int]:
    """The processes directly below this one, oldest first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if int(fields[1]) == pid:
            found.append((int(fields[19]), int(stat.parent.name)))
    return [pid for _, pid in sorted(found)]


def tree(pid: int) -> list[int]:
    """This process and all below it."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def busy_and_all_seconds() -> tuple[float, float]:
    """What all cores did since the boot, and all the time they had. A guest's time is contained in user time."""
    fields = [int(field) * _TICK for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)  # without idle and iowait, proc(5)


def _spent(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise BenchmarkFailed(f"process {pid} ended while it was measured") from None
    return (int(fields[11]) + int(fields[12])) * _TICK  # utime and stime, proc(5)
