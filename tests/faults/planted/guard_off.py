"""The guard lets everything through."""

from __future__ import annotations

from types import ModuleType

MODULE = "notifier.webhook.guard"


def plant(module: ModuleType) -> None:
    """No address is refused."""
    module.Guard.refusal = lambda self, host: None
