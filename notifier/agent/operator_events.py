"""Operator events: where the agent hears of what they tell, and the parts that tell it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from notifier.agent import happenings
from notifier.agent.incidents import Incidents, Line
from notifier.agent.operations import Operations
from notifier.agent.watched import watched
from notifier.delivery.acceptance import Entrance
from notifier.domain.operations import Event, Happening
from notifier.domain.rest import BREAKER
from notifier.ledger import merchants, notifications
from notifier.ledger.database import Database
from notifier.registry import form
from notifier.settings import Settings
from notifier.supervision.mirror import Follower

#: Seconds between two looks at who is disabled, and for how long one that was is still told.
DISABLED, LATELY = 5.0, 3600.0
#: What can go on for a while.
_LASTING = {Event.TIER_LATE, Event.SLOT_DEGRADED}


class Following(Line, Protocol):
    """The line to the master, with the keys that it tells."""

    async def follow(self, follower: Follower, prefix: str = "") -> None:
        """See `Parent.follow`."""


class OperatorEvents:
    """The whole of it. `follow`, then `start`; `close` twice is fine. leads: whether this agent does what one does for
    all machines.
    """

    def __init__(
        self, line: Following, settings: Settings, database: Database, entrance: Entrance, leads: Callable[[], bool]
    ) -> None:
        self._line = line
        self._database = database
        self._leads = leads
        self._operations = Operations(settings, entrance.accept, self._known, self._told)
        self._incidents = Incidents(line, settings, self._operations.happened, self._heads)
        self._watching: asyncio.Task[None] | None = None

    @property
    def rounds(self) -> Mapping[str, tuple[float, Callable[[], Awaitable[object]]]]:
        """What only one agent of the fleet looks for; see `Keeper`."""
        if Event.MERCHANT_DISABLED not in self._operations.wants:
            return {}
        return {"disabled merchants": (DISABLED, self._look_for_disabled)}

    def exhausted(self, facts: Sequence[Mapping[str, Any]]) -> None:
        """Facts of ladders that are used up, each of which comes once."""
        if Event.NOTIFICATION_EXHAUSTED in self._operations.wants:
            for fact in facts:
                self._operations.happened(happenings.of_fact(fact))

    async def follow(self) -> None:
        """Take over what is known, and every change from now on."""
        await self._line.follow(self._on_breaker, BREAKER)

    def start(self) -> None:
        """Begin to look and to tell; once there is a connection to the broker."""
        self._operations.start()
        if self._operations.wants & _LASTING:
            self._watching = watched("incidents", self._incidents.watch)

    async def close(self) -> None:
        """Tell at once what was gathered, if that is soon done."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        await self._operations.close()

    async def _on_breaker(self, key: str, value: Any) -> None:
        if (happening := happenings.of_breaker(key, value)) is not None:
            self._operations.happened(happening)

    async def _look_for_disabled(self) -> bool:
        since = int((time.time() - LATELY) * 1000)
        for row in await merchants.disabled_since(self._database, since):
            merchant = form.read(row.id, row.body or "", row.version, row.changed_at)
            if (happening := happenings.of_merchant(merchant)) is not None and happening.at >= since:
                self._operations.happened(happening)
        return False

    async def _heads(self) -> Mapping[str, int]:
        """One machine tells of what waits in the broker, which is the same for all."""
        return await notifications.tiers(self._database) if self._leads() else {}

    async def _known(self, ids: Sequence[str]) -> set[str]:
        return await notifications.existing(self._database, ids)

    async def _told(self, happening: Happening) -> None:
        await self._incidents.told(happening)
