"""The merchants as a tier process knows them: the machine's replica, and the agent's word on how far it is.

Key of the desired state: `registry`, {"version": v, "stale_since": ISO or null, "run": which service said so}. It
counts as applied when this process looks merchants up in a replica of at least that version, and the callbacks under
way to merchants that were changed and are off now are over, or had `LAST_WORDS` to be.

Nothing is delivered before the agent of this very service has said its word: what an earlier one had said is kept by
the master, but merchants may have been blocked since, on another machine. Without an agent the replica is used as it
is, and without a replica the settings serve all merchants.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from notifier import logs
from notifier.delivery.delivery import DeliveryRoom
from notifier.domain.merchant import Merchant, Standing
from notifier.errors import RegistryUnreadable
from notifier.processes.tier_control import LAST_WORDS
from notifier.registry.cache import Registry
from notifier.settings import Settings
from notifier.supervision.child import Parent

KEY = "registry"
#: Seconds between two sentences that say what is waited for, and two looks at the replica meanwhile.
_PATIENCE = 2.0


class TierRegistry:
    """What a tier process looks up, and when it may begin. `follow`, then `arrived`, before the first delivery.

    room: whose callbacks have to end when a merchant is switched off. clock: Unix seconds.
    """

    def __init__(
        self,
        parent: Parent,
        settings: Settings,
        room: Callable[[], DeliveryRoom],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._parent = parent
        self._settings = settings
        self._room = room
        self._clock = clock
        self._registry = Registry(Path(settings.state_dir), clock=clock)
        self._has_agent = bool(parent.boot.get("registry"))
        self._word: Mapping[str, Any] = {}
        self._here = asyncio.Event()

    async def follow(self) -> None:
        """Take over how far the registry is, and every change from now on."""
        if self._has_agent:
            await self._parent.follow(self._on_word, KEY)
        else:
            self._look_once()

    async def arrived(self, waiting: Callable[[str], Awaitable[None]]) -> None:
        """Return when there is a complete registry and the agent's word on it. waiting: told a sentence meanwhile."""
        began = time.monotonic()
        while not self._here.is_set():
            await waiting(f"waiting for the registry for {time.monotonic() - began:.0f} s: {self._lacking()}")
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._here.wait()
            except TimeoutError:
                self._look()  # the word may have come before the replica could be read

    def close(self) -> None:
        """Twice is fine."""
        self._registry.close()

    def merchant(self, merchant: str) -> Merchant:
        """As it is known now; one that is not registered is served by the settings. Raises RegistryUnreadable."""
        registered = self._registry.get(merchant) if self._registry.stand is not None else None
        ack, secrets = self._settings.ack_rule, self._settings.secrets
        if registered is None:
            return Merchant(merchant, secrets=secrets, ack=ack)
        return registered.at(int(self._clock() * 1000), ack, secrets)

    def cancelled(self, notification: str, run: int) -> str | None:
        """Why this run of the notification was given up; None if it was not. Raises RegistryUnreadable."""
        return self._registry.cancelled(notification, run)

    def is_off(self, merchant: str) -> bool:
        """Whether no callback to it may start; also if that cannot be read just now."""
        try:
            return self.merchant(merchant).standing is not Standing.ENABLED
        except RegistryUnreadable:
            return True

    def statistics(self) -> dict[str, Any]:
        """For the heartbeat. stale_since: when the replica was last known to be what the database has."""
        stand = self._registry.stand
        if stand is None:
            return {"version": None, "stale_since": None}
        stale = self._word.get("stale_since") if self._has_agent else logs.moment(stand.confirmed_at)
        return {"version": stand.version, "stale_since": stale}

    async def _on_word(self, _: str, value: Any) -> None:
        if not isinstance(value, Mapping) or value.get("run") != self._parent.boot.get("run"):
            return  # of a service before this one
        self._word = value
        if not self._here.is_set():
            self._look()
            return
        await self._last_words(self._registry.refresh(value["version"]))

    def _look(self) -> None:
        """Before this process works: whether it can begin."""
        if not self._word:
            return
        try:
            self._registry.refresh(self._word["version"])
        except RegistryUnreadable as error:
            logs.event("registry.unreadable", logging.WARNING, why=str(error))
            return
        self._here.set()

    def _look_once(self) -> None:
        """Without an agent: what there is has to do."""
        try:
            self._registry.refresh()
        except RegistryUnreadable as error:
            logs.event("registry.none", why=str(error), hint="the settings serve all merchants")
        self._here.set()

    async def _last_words(self, changed: list[str] | None) -> None:
        """Wait for the callbacks that had started to merchants that are off now. changed: None means possibly all."""
        room = self._room()
        called = {work.notification.merchant for work in room.works if work.calling and work.notification is not None}
        off = [merchant for merchant in called if (changed is None or merchant in changed) and self.is_off(merchant)]
        over = await asyncio.gather(*(room.called_back(merchant, LAST_WORDS) for merchant in off))
        if not all(over):
            logs.event("block.running", merchants=off, hint="callbacks that had started before are still running")

    def _lacking(self) -> str:
        if not self._word:
            return "the agent has not said yet how far it is (it has no copy of the merchants, or does not run)"
        return f"this machine's copy of the merchants cannot be read at version {self._word.get('version')}"
