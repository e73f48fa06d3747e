"""What the control line changes in the API process: its copy of the registry, and how much it logs.

Keys of the desired state: `registry` {"version", "stale_since"}; `block/MERCHANT`; `log-level/TARGET`. A change of the
registry counts as applied when no answer is given from an older copy any more. A block changes nothing here, since a
blocked merchant's notifications are accepted and held: it is live in this process as soon as it was heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notifier import logs
from notifier.api.parts import Parts
from notifier.errors import InvalidInput, RegistryUnreadable
from notifier.settings import Settings
from notifier.supervision.actions import Sender
from notifier.supervision.child import Parent

#: Under which names an operator reaches this process, the narrowest first.
ADDRESSES = ("api", "all")
LEVELS = ("debug", "info", "warning", "error")


class Following:
    """Follows the desired state. `start` before READY."""

    def __init__(self, parent: Parent, parts: Parts) -> None:
        self._parent = parent
        self._parts = parts
        self._log = parts.settings.log
        self._levels: dict[str, str] = {}
        self._stale_since: str | None = None
        self._started = False

    async def start(self) -> None:
        """Take over what is wanted now, and every change from now on."""
        self._parent.on("settings", self._on_settings)
        self._look_again(0)
        await self._parent.follow(self._on_registry, "registry")
        await self._parent.follow(self._on_block, "block/")
        await self._parent.follow(self._on_log_level, "log-level/")
        self._started = True

    def stand(self) -> Mapping[str, Any] | None:
        """How far this machine's copy of the registry is, for the heartbeat; None without one."""
        stand = self._parts.registry.stand
        return None if stand is None else {"version": stand.version, "stale_since": self._stale_since}

    async def _on_registry(self, key: str, value: Any) -> None:
        if key != "registry" or not isinstance(value, Mapping):
            return
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

    async def _on_log_level(self, key: str, value: Any) -> None:
        target = key.removeprefix("log-level/")
        if target not in ADDRESSES:
            return
        if value is not None and value not in LEVELS:
            raise InvalidInput(f"{str(value)[:50]!r} is not a log level: possible are {', '.join(LEVELS)}")
        if value is None:
            self._levels.pop(target, None)
        else:
            self._levels[target] = value
        self._take_log()

    async def _on_settings(self, offered: Any, sender: Sender) -> list[str]:
        """Take over from reloaded settings what can change live. prefetch is none of this process's."""
        self._log = Settings.received(self._parts.settings.transferable() | offered).log
        self._take_log()
        return ["log.level", "log.format", "prefetch"]

    def _take_log(self) -> None:
        level = next((self._levels[name] for name in ADDRESSES if name in self._levels), self._log.level)
        logs.configure(level, self._log.format, "api")
