"""What the figures were measured on, and whether it was quiet."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import notifier
from benchmarks import proc

_PACKAGES = ("aio-pika", "aiormq", "aiohttp", "uvloop")
#: Beyond these the figures are not worth much: share of all cores in use, and processes ready to run.
_MOST_BUSY, _MOST_LOAD = 0.1, 0.5
#: Milliseconds for which a sync of the disk may last.
_MOST_SYNC = 50.0


@dataclass(frozen=True, slots=True)
class Disk:
    """How long the disk took for small writes that were synced, on the machine at rest, milliseconds. Broker and ledger
    wait for such ones all the time, so where the disk stands still by itself lateness tells of that. directory: where.
    """

    directory: str
    p50: float
    p99: float
    longest: float

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.directory}: a small write synced in {self.p50:.1f} ms at the median, p99 {self.p99:.1f}, "
            f"at most {self.longest:.0f}"
        )

    @property
    def warning(self) -> str | None:
        """What to say about it; None when none lasted long."""
        if self.longest <= _MOST_SYNC:
            return None
        return (
            f"the disk of {self.directory} stood still for {self.longest:.0f} ms, with nothing else to do, and broker "
            "and ledger wait for it; TMPDIR names another place, such as /dev/shm"
        )


async def disk(count: int = 400, apart: float = 0.01) -> Disk:
    """Write and sync so many times, so many seconds apart, where the runs keep what they write."""
    lasted = []
    with tempfile.TemporaryFile() as file:
        for _ in range(count):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes(16_384), 0)
            os.fdatasync(file.fileno())
            lasted.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(apart)  # the pace of the measurement
    lasted.sort()
    return Disk(tempfile.gettempdir(), lasted[count // 2], lasted[count * 99 // 100], lasted[-1])


@dataclass(frozen=True, slots=True)
class Quiet:
    """How much the machine had to do before the start. busy: share of all cores, over a second. load: of a minute."""

    busy: float
    load: float
    disk: Disk

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
    """Watch the machine for a second, then its disk for some."""
    before = proc.busy_and_all_seconds()
    await asyncio.sleep(1)  # the interval of the measurement
    busy, everything = proc.busy_and_all_seconds()
    share = (busy - before[0]) / max(0.01, everything - before[1])
    return Quiet(busy=share, load=os.getloadavg()[0], disk=await disk())


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
