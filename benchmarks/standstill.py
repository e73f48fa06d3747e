"""When the machine stood still by itself during a run: what lateness is the host's, and not of what is measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import children, standstill_watch
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


class Watch:
    """A running one. told: the file of each core; none where it is not allowed to watch."""

    def __init__(self, told: Sequence[Path]) -> None:
        self._told = told

    def stood(self, due: Mapping[str, float], late_ms: Mapping[str, float]) -> Stood | None:
        """What the standstills so far have to do with how late these were. due: Unix seconds. None: nobody watched."""
        if not self._told:
            return None
        return stood([span for file in self._told for span in _spans(file.read_text())], due, late_ms)


def stood(spans: Sequence[tuple[float, float]], due: Mapping[str, float], late_ms: Mapping[str, float]) -> Stood:
    """spans: from when to when, Unix seconds. Those count that met the load, or the seconds around it.

    Something was late at a standstill when it waited during one; or so shortly after it as it had lasted, for what had
    become due meanwhile comes first.
    """
    first, last = min(due.values()) - _AROUND, max(due.values()) + _AROUND
    spans = [span for span in spans if span[1] >= first and span[0] <= last]
    latest = sorted(late_ms, key=lambda each: late_ms[each])[-max(1, len(late_ms) // 100) :]
    through_it = sum(
        any(began <= due[each] + late_ms[each] / 1000 and due[each] <= 2 * ended - began for began, ended in spans)
        for each in latest
    )
    return Stood(sum(ended - began for began, ended in spans) * 1000, len(latest), through_it)


@contextlib.asynccontextmanager
async def open_watch(directory: Path) -> AsyncIterator[Watch]:
    """Watch every core that this process may use until the end of the block. directory: of the logs."""
    async with contextlib.AsyncExitStack() as stack:
        told = [await stack.enter_async_context(_watched(core, directory)) for core in sorted(os.sched_getaffinity(0))]
        yield Watch([file for file in told if file is not None])


@contextlib.asynccontextmanager
async def _watched(core: int, directory: Path) -> AsyncIterator[Path | None]:
    file = directory / f"standstills-{core}"
    file.touch()
    command = [sys.executable, standstill_watch.__file__, str(core), str(file)]
    process = await children.start(f"watch {core}", command, directory, children.environment({}), read=True)
    try:
        assert process.process.stdout is not None
        async with asyncio.timeout(_START_PATIENCE):
            said = (await process.process.stdout.readline()).strip()
        if not said:
            raise BenchmarkFailed(f"the watch of core {core} does not start:\n{process.last_lines()}")
        yield file if said == b"watching" else None
    finally:
        await process.stop()


def _spans(text: str) -> list[tuple[float, float]]:
    """All whole lines."""
    *lines, _ = text.split("\n")
    return [(float(began), float(ended)) for began, _, ended in (line.partition(" ") for line in lines)]
