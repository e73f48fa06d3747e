"""What the control line changes in the API process: how far its copy of the registry has to be.

Keys of the desired state: `registry` {"version", "stale_since", "run"}; `block/MERCHANT`. A change of the registry
counts as applied when nothing is answered from an older copy any more. A block changes nothing here, since a blocked
merchant's notifications are accepted and held: it is live in this process as soon as it was heard.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from notifier.api.parts import Parts
from notifier.errors import RegistryUnreadable
from notifier.supervision.child import Parent


class Following:
    """Follows the desired state. `start` before READY."""

    def __init__(self, parent: Parent, parts: Parts) -> None:
        self._parent = parent
        self._parts = parts
        self._stale_since: str | None = None
        self._started = False

    async def start(self) -> None:
        """Take over what is wanted now, and every change from now on."""
        self._look_again(0)
        await self._parent.follow(self._on_registry, "registry")
        await self._parent.follow(self._on_block, "block/")
        self._started = True

    def stand(self) -> Mapping[str, Any] | None:
        """How far this machine's copy of the registry is, for the heartbeat; None without one."""
        registry = self._parts.registry
        if registry.stand is None:
            with contextlib.suppress(RegistryUnreadable):
                registry.refresh()  # a copy that came late
        return None if registry.stand is None else {"version": registry.stand.version, "stale_since": self._stale_since}

    async def _on_registry(self, key: str, value: Any) -> None:
        if key != "registry" or not isinstance(value, Mapping) or value.get("run") != self._parent.boot.get("run"):
            return  # cleared, or of a service before this one
        since = value.get("stale_since")
        self._stale_since = None if since is None else str(since)
        version = value.get("version")
        self._look_again(version if isinstance(version, int) else 0)

    def _look_again(self, version: int) -> None:
        """While this process starts, an older copy will do: what is accepted is judged again at each attempt."""
        try:
            self._parts.registry.refresh(version)
        except RegistryUnreadable:
            if self._started:
                raise

    async def _on_block(self, key: str, value: Any) -> None:
        return
