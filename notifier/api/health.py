"""For probes: whether this process lives, and whether a notification would be accepted now."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from notifier.api.parts import Given
from notifier.api.problems import Problem

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether this process answers")
async def healthz() -> dict[str, str]:
    """200 as long as the process answers at all; nothing else is asked."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether notifications are accepted now")
async def readyz(parts: Given) -> dict[str, Any]:
    """503 while the broker is away or takes nothing, or the service drains. The database being away is told, but
    nothing is refused for it: notifications are accepted without.
    """
    if parts.closing.is_set():
        raise Problem("unavailable", "this process drains")
    if not parts.publisher.connected:
        raise Problem("unavailable", "RabbitMQ is not connected, so nothing can be accepted now")
    if parts.publisher.blocked:
        raise Problem("unavailable", "RabbitMQ takes nothing now: it has a memory or disk alarm")
    return {"status": "ok", "broker": "up", "database": "up" if parts.door.up else "down"}
