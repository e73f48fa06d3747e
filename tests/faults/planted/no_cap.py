"""No merchant has a bound on callbacks at once."""

from __future__ import annotations

from types import ModuleType
from typing import Any

MODULE = "notifier.delivery.turns"


def plant(module: ModuleType) -> None:
    """Whatever the bound, it is forgotten."""
    turns = module.Turns
    mine = turns.mine

    async def unbounded(self: Any, merchant: str, most: int | None = None, *others: Any, **named: Any) -> Any:
        return await mine(self, merchant, None, *others, **named)

    turns.mine = unbounded
