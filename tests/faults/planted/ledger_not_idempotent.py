"""A fact that arrives twice is stored twice."""

from __future__ import annotations

import uuid
from types import ModuleType
from typing import Any

MODULE = "notifier.ledger.fact_rows"


def plant(module: ModuleType) -> None:
    """Give each row of an attempt an id of its own."""
    attempt = module._attempt

    def fresh(*arguments: Any) -> dict[str, Any]:
        return {**attempt(*arguments), "attempt": str(uuid.uuid4())}

    vars(module)["_attempt"] = fresh
