"""What the figures were measured on, and whether it was quiet."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import notifier
from benchmarks import proc

_PACKAGES = ("aio-pika", "aiormq", "aiohttp", "uvloop")
#: Beyond these the figures are not worth much: share of all cores in use, and processes ready to run.
_MOST_BUSY, _MOST_LOAD = 0.1, 0.5


@dataclass(frozen=True, slots=True)
class Quiet:
    """How much the machine had to do before the start. busy: share of all cores, over a second. load: of a minute."""

    busy: float
    load: float

    @property
    def warning(self) -> str | None:
        """What to say about it; None when it was quiet."""
        if self.busy <= _MOST_BUSY and self.load <= _MOST_LOAD:
            return None
        return (
            f"the machine was busy before the start ({self.busy:.0%} of its cores in use, load {self.load:.2f}): "
            "compare pair by pair at most, and measure again when it is quiet"
        )


async def look_around() -> Quiet:
    """Watch the machine for a second."""
    before = proc.busy_and_all_seconds()
    await asyncio.sleep(1)  # the interval of the measurement
    busy, everything = proc.busy_and_all_seconds()
    return Quiet(busy=(busy - before[0]) / max(0.01, everything - before[1]), load=os.getloadavg()[0])


class Others:
    """What the rest of the machine does while we measure. ours: processes that live longer than the measurement.

    Those that are started meanwhile have to be children of this one and have ended by the time of asking.
    """

    def __init__(self, ours: Sequence[int]) -> None:
        self._ours = ours
        self._before = self._seconds()

    @property
    def share(self) -> float:
        """The share of all cores that others used since this was made."""
        return self.share_beside(())

    def share_beside(self, running: Sequence[int]) -> float:
        """The same. running: processes of ours that were started meanwhile and have not ended yet."""
        busy, everything, own = (now - then for now, then in zip(self._seconds(running), self._before, strict=True))
        return max(0.0, (busy - own) / max(0.01, everything))

    def _seconds(self, running: Sequence[int] = ()) -> tuple[float, float, float]:
        here, pids = os.times(), [*self._ours, *running]
        own = here.user + here.system + here.children_user + here.children_system + proc.cpu_seconds(pids)
        return (*proc.busy_and_all_seconds(), own)


def disturbance(share: float) -> str | None:
    """What to say about the share of the cores that others used; None when it was little."""
    if share <= _MOST_BUSY:
        return None
    return f"others used up to {share:.0%} of the cores during a run: these figures tell more about them than about us"


def description(broker: str, receiver: str) -> dict[str, str | int]:
    """The machine and the versions of everything that takes part."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}",
        "broker": broker,
        "receiver": receiver,
        "python": platform.python_version(),
        "notifier": notifier.__version__,
        **{name: metadata.version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
