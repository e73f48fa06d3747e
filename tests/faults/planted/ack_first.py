"""The acknowledgement is the first effect instead of the last."""

from __future__ import annotations

from types import ModuleType
from typing import Any

MODULE = "notifier.delivery.delivery"


def plant(module: ModuleType) -> None:
    """Acknowledge what was just taken, then work on it."""
    room = module.DeliveryRoom
    work_on = room._work

    async def work(self: Any, work: Any) -> None:
        await work.delivery.ack()
        await work_on(self, work)

    async def acknowledge(self: Any, work: Any) -> None:
        self._in_flight.remember(work)

    room._work = work
    room._acknowledge = acknowledge
