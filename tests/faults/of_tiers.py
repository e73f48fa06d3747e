"""Faults of a tier process: death at each named point, and wherever it happens to be."""

from __future__ import annotations

from pathlib import Path

from tests.faults.errors import DidNotBite
from tests.faults.fault import Strike
from tests.faults.field import Field
from tests.faults.service import TIERS
from tests.faults.verdict import Window

#: The arrival at the point that is deadly: so many come through first.
_NTH = 20


def killed_at(point: str) -> Strike:
    """kill -9 by itself when a notification reaches the point, in the two tier processes in turn."""

    async def strike(field: Field, number: int) -> Window:
        # the second tier's last attempts are not republished, so that point is met by the first one's
        slot = TIERS[number % 2] if point != "before-republish" else TIERS[0]
        standing = await field.service.until(slot, state="ready")
        armed = field.service.points / f"{slot}.{point}"
        fired = armed.with_name(f"{armed.name}.fired")
        fired.unlink(missing_ok=True)
        armed.write_text(str(_NTH))
        restored = await field.service.died(standing)
        died = _moment(fired)
        return Window(died, died, restored)

    return strike


def _moment(fired: Path) -> float:
    if not fired.exists():
        raise DidNotBite(f"{fired.name}: the process died elsewhere")
    return float(fired.read_text()) * 1000


async def killed_from_outside(field: Field, number: int) -> Window:
    """kill -9 at any moment."""
    began, restored = await field.service.kill(TIERS[number % 2])
    return Window(began, began, restored)
