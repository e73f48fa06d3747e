"""What the host does to the machine during a run, and not what is measured: it stands still, its cores are slower."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import children, host_watch
from benchmarks.errors import BenchmarkFailed

_START_PATIENCE = 10.0
#: Seconds: what is due was published one before.
_AROUND = 2.0


@dataclass(frozen=True, slots=True)
class Stood:
    """The standstills of a run, of single cores or of all. ms: all together. latest: so many notifications are the
    latest hundredth; through_it: those of them that were late at a standstill.
    """

    ms: float
    latest: int
    through_it: int


@dataclass(frozen=True, slots=True)
class _Told:
    """The files of one core."""

    standstills: Path
    pieces: Path


class Watch:
    """A running one. told: of each core; none where it is not allowed to watch."""

    def __init__(self, told: Sequence[_Told]) -> None:
        self._told = told

    def stood(self, due: Mapping[str, float], late_ms: Mapping[str, float]) -> Stood | None:
        """What the standstills so far have to do with how late these were. due: Unix seconds. None: nobody watched."""
        if not self._told:
            return None
        return stood([span for core in self._told for span in _two_each(core.standstills)], due, late_ms)

    def piece_us(self, due: Mapping[str, float]) -> float | None:
        """Microseconds that the same piece of work took while the load came, in the mean of all cores. None: nobody
        watched.
        """
        if not self._told:
            return None
        return piece_us([_two_each(core.pieces) for core in self._told], due)


def stood(spans: Sequence[tuple[float, float]], due: Mapping[str, float], late_ms: Mapping[str, float]) -> Stood:
    """spans: from when to when, Unix seconds. Those count that met the load, or the seconds around it.

    Something was late at a standstill when it waited during one; or so shortly after it as it had lasted, for what had
    become due meanwhile comes first.
    """
    first, last = _load(due)
    spans = [span for span in spans if span[1] >= first and span[0] <= last]
    latest = sorted(late_ms, key=lambda each: late_ms[each])[-max(1, len(late_ms) // 100) :]
    through_it = sum(
        any(began <= due[each] + late_ms[each] / 1000 and due[each] <= 2 * ended - began for began, ended in spans)
        for each in latest
    )
    return Stood(sum(ended - began for began, ended in spans) * 1000, len(latest), through_it)


def piece_us(cores: Sequence[Sequence[tuple[float, float]]], due: Mapping[str, float]) -> float:
    """cores: of each the moments, Unix seconds, and the microseconds. Those count that met the load, or the seconds
    around it.

    Raises BenchmarkFailed if there is a core without any: nothing may look alike because nobody looked.
    """
    first, last = _load(due)
    those = [[took for moment, took in core if first <= moment <= last] for core in cores]
    if not all(those):
        raise BenchmarkFailed("a core told nothing of its speed during a run: its watch stopped")
    return statistics.mean(statistics.mean(core) for core in those)


@contextlib.asynccontextmanager
async def open_watch(directory: Path) -> AsyncIterator[Watch]:
    """Watch every core that this process may use until the end of the block. directory: of the logs."""
    async with contextlib.AsyncExitStack() as stack:
        told = [await stack.enter_async_context(_watched(core, directory)) for core in sorted(os.sched_getaffinity(0))]
        yield Watch([core for core in told if core is not None])


@contextlib.asynccontextmanager
async def _watched(core: int, directory: Path) -> AsyncIterator[_Told | None]:
    told = _Told(directory / f"standstills-{core}", directory / f"pieces-{core}")
    files = [told.standstills, told.pieces]
    for file in files:
        file.touch()
    command = [sys.executable, host_watch.__file__, str(core), *map(str, files)]
    process = await children.start(f"watch {core}", command, directory, children.environment({}), read=True)
    try:
        assert process.process.stdout is not None
        async with asyncio.timeout(_START_PATIENCE):
            said = (await process.process.stdout.readline()).strip()
        if not said:
            raise BenchmarkFailed(f"the watch of core {core} does not start:\n{process.last_lines()}")
        yield told if said == b"watching" else None
    finally:
        await process.stop()


def _load(due: Mapping[str, float]) -> tuple[float, float]:
    """From when to when, Unix seconds."""
    return min(due.values()) - _AROUND, max(due.values()) + _AROUND


def _two_each(file: Path) -> list[tuple[float, float]]:
    """All whole lines."""
    *lines, _ = file.read_text().split("\n")
    return [(float(one), float(other)) for one, _, other in (line.partition(" ") for line in lines)]
