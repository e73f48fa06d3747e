"""Wait queues let go a tenth of the delay too early."""

from __future__ import annotations

from types import ModuleType
from typing import Any

MODULE = "notifier.broker.topology"


def plant(module: ModuleType) -> None:
    """Take a tenth from the TTL."""
    topology = module.Topology
    waiting = topology._waiting

    def shorter(self: Any, tier: Any) -> dict[str, Any]:
        return {**waiting(self, tier), "x-message-ttl": tier.milliseconds * 9 // 10}

    topology._waiting = shorter
