"""An extension as a user might write it: it does its work without ever giving the event loop back."""

from __future__ import annotations

import time
from typing import Any


def register(extension: Any) -> None:
    """One action, with so many seconds of work."""

    @extension.action("faults.block")  # type: ignore[untyped-decorator]  # it is the service's, whatever that is
    async def block(seconds: float, sender: str) -> str:
        time.sleep(seconds)  # noqa: ASYNC251  this is the fault
        return "over"
