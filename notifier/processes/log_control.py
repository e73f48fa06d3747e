"""What a process without tiers of its own takes from the control line: how much it logs, and reloaded settings."""

from __future__ import annotations

from typing import Any

from notifier import logs
from notifier.errors import InvalidInput
from notifier.processes.reloading import ACTION, OFFERED
from notifier.settings import Settings
from notifier.supervision.actions import Sender
from notifier.supervision.child import Parent

LEVELS = ("debug", "info", "warning", "error")


class LogControl:
    """Follows `log-level/SLOT` and `log-level/all`, the narrower one first. `follow` before ready."""

    def __init__(self, parent: Parent, slot: str, settings: Settings) -> None:
        self._parent = parent
        self._slot = slot
        self._settings = settings
        self._chosen: dict[str, str] = {}

    async def follow(self) -> None:
        """Take over what operators want, now and from now on; answer the action `settings`."""
        self._parent.on(ACTION, self._on_settings)
        await self._parent.follow(self._on_level, "log-level/")

    async def _on_level(self, key: str, value: Any) -> None:
        target = key.removeprefix("log-level/")
        if target not in (self._slot, "all"):
            return
        if value is None:
            self._chosen.pop(target, None)
        elif value in LEVELS:
            self._chosen[target] = value
        else:
            raise InvalidInput(f"{str(value)[:50]!r} is not a log level: possible are {', '.join(LEVELS)}")
        self._take()

    async def _on_settings(self, offered: Any, sender: Sender) -> list[str]:
        """What of it is no matter of this process is in force here, too."""
        self._settings = Settings.received(self._settings.transferable() | offered)
        self._take()
        return list(OFFERED)

    def _take(self) -> None:
        level = self._chosen.get(self._slot) or self._chosen.get("all") or self._settings.log.level
        logs.configure(level, self._settings.log.format, self._slot)
