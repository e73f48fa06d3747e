"""The ladder live, and what an operator does to it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from notifier.api.live import live
from notifier.api.parts import Given

router = APIRouter(prefix="/v1", tags=["tiers"])


@router.get("/tiers", summary="Every tier as it is now")
async def show(parts: Given) -> dict[str, Any]:
    """Queues, processes, lateness, pauses; see `problems` for what could not be asked."""
    return await live(parts)
