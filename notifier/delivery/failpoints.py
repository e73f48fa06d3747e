"""Where a test of faults lets a tier process die. Outside such tests nothing happens at these points.

The points are named in `delivery.py`, one line each: `before-callback`, `during-callback`, `before-fact`,
`before-republish`, `before-ack`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

#: Names a directory that a test arms points in. No setting, so that no file or flag of an operator can name one.
VARIABLE = "_NOTIFIER_FAIL_POINTS"
#: Seconds from the start of a callback to the moment that counts as during it: the request is out, and not answered.
_INTO_THE_CALLBACK = 0.04


class FailPoints:
    """Points at which nothing happens."""

    async def reach(self, point: str) -> None:
        """The work is at this point now."""


class ArmedFailPoints(FailPoints):
    """Dies by kill -9 where a file says so.

    The file is `DIRECTORY/SLOT.POINT`; in it the number of arrivals at that point, counted from when it is first seen,
    of which the last one is deadly. The moment of death, Unix seconds, is left in `SLOT.POINT.fired`.
    """

    def __init__(self, directory: Path, slot: str) -> None:
        self._directory = directory
        self._slot = slot
        self._arrivals: Counter[str] = Counter()

    async def reach(self, point: str) -> None:
        """Count this arrival, and die if it is the one."""
        armed = self._directory / f"{self._slot}.{point}"
        try:
            deadly = int(armed.read_text())
        except FileNotFoundError:
            return
        self._arrivals[point] += 1
        if self._arrivals[point] < deadly:
            return
        if point == "during-callback":
            asyncio.get_running_loop().call_later(_INTO_THE_CALLBACK, self._die, armed)
        else:
            self._die(armed)

    def _die(self, armed: Path) -> None:
        armed.with_name(f"{armed.name}.fired").write_text(repr(time.time()))
        armed.unlink()  # the process after this one shall live
        os.kill(os.getpid(), signal.SIGKILL)


def fail_points(slot: str) -> FailPoints:
    """Those of the process in this slot."""
    directory = os.environ.get(VARIABLE)
    return FailPoints() if directory is None else ArmedFailPoints(Path(directory), slot)
