"""The next tier is published without waiting for the broker's confirm."""

from __future__ import annotations

import asyncio
import contextlib
from types import ModuleType
from typing import Any

MODULE = "notifier.broker.publisher"


def plant(module: ModuleType) -> None:
    """Send it off once, and look away."""
    publisher = module.Publisher
    insist_by = publisher.insist_by
    under_way: set[asyncio.Task[None]] = set()

    async def once(self: Any, way: Any, message: Any) -> None:
        with contextlib.suppress(Exception):
            await self.publish_by(way, message)

    async def insist(self: Any, way: Any, message: Any) -> None:
        if not way.exchange.endswith(".wait"):
            await insist_by(self, way, message)
            return
        sending = asyncio.create_task(once(self, way, message))
        under_way.add(sending)
        sending.add_done_callback(under_way.discard)

    publisher.insist_by = insist
