"""Faults of a tier process: death at each named point, and wherever it happens to be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.faults import files
from tests.faults.errors import DidNotBite
from tests.faults.fault import Strike
from tests.faults.field import Field
from tests.faults.service import TIERS
from tests.faults.verdict import ON_THE_WIRE_MS, Window

#: The arrival at the point that is deadly: so many come through first.
_NTH = 20
#: Seconds for so many to arrive there.
_ARRIVED = 60.0


def killed_at(point: str) -> Strike:
    """kill -9 by itself when a notification reaches the point, in the two tier processes in turn."""

    async def strike(field: Field, number: int) -> Window:
        # the second tier's last attempts are not republished, so that point is met by the first one's
        slot = TIERS[number % 2] if point != "before-republish" else TIERS[0]
        standing = await field.service.until(slot, state="ready")
        armed = field.service.points / f"{slot}.{point}"
        fired = armed.with_name(f"{armed.name}.fired")
        fired.unlink(missing_ok=True)
        came, began = len(field.receiver.arrivals), time.time() * 1000
        async with _hanging(field, fired) if point == "during-callback" else contextlib.nullcontext():
            files.put(armed, str(_NTH))  # a point that finds it empty fails on the notification that is there
        restored = await field.service.died(standing)
        died = _moment(fired)
        if point != "during-callback":
            return Window(died, died, restored)
        _was_calling(field, came, died, attempt=TIERS.index(slot) + 1)
        return Window(began, died, restored)  # what hangs is in hand from when it came

    return strike


@contextlib.asynccontextmanager
async def _hanging(field: Field, fired: Path) -> AsyncIterator[None]:
    """No merchant answers, so whatever is called is so until somebody dies."""
    field.receiver.hang_all()
    try:
        yield
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ARRIVED):
                while not _is_there(fired):  # noqa: ASYNC110  a file tells nobody
                    await asyncio.sleep(0.02)
    finally:
        field.receiver.let_go()


def _was_calling(field: Field, came: int, died: float, attempt: int) -> None:
    """Requests had come, or were on the wire, and none of them was answered before the death."""
    read = died + ON_THE_WIRE_MS
    calling = sum(arrival.attempt == attempt and arrival.moment < read for arrival in field.receiver.arrivals[came:])
    if calling < _NTH // 2:
        raise DidNotBite(f"{calling} requests were under way at the death")


def _is_there(fired: Path) -> bool:
    return fired.exists()


def _moment(fired: Path) -> float:
    if not fired.exists():
        raise DidNotBite(f"{fired.name}: the process died elsewhere")
    return float(fired.read_text()) * 1000


async def killed_from_outside(field: Field, number: int) -> Window:
    """kill -9 at any moment."""
    began, restored = await field.service.kill(TIERS[number % 2])
    return Window(began, began, restored)
