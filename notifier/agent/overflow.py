"""Who waits for room in a tier process, and the end of that.

A tier process that had no room for a merchant tells it in a key of the desired state, `overflow/TIER/MERCHANT`, and
from then on holds what newly arrives for it as well, so that nothing overtakes what is held. Only the ledger knows when
all of that is on its way again: then the agent of the same machine clears the key. Else the key ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from notifier import logs
from notifier.errors import NotifierError
from notifier.ledger import holding
from notifier.ledger.database import Database

PREFIX = "overflow/"
#: Seconds between two looks; and for which a key is left alone after it was set, since the first `held` facts of it may
#: be on their way to the ledger.
EVERY, YOUNG = 1.0, 2.0

#: Clears a key of the desired state.
Clear = Callable[[str], Awaitable[object]]


class Overflows:
    """Follows the keys of this machine, and clears them. clock: Unix seconds."""

    def __init__(self, database: Database, clear: Clear, clock: Callable[[], float]) -> None:
        self._database = database
        self._clear = clear
        self._clock = clock
        self._since: dict[str, float] = {}
        self._some = asyncio.Event()

    def follow(self, key: str, value: Any) -> None:
        """A key and its value now, None where it was cleared."""
        if value is None:
            self._since.pop(key, None)
        else:
            self._since[key] = self._clock()  # told again is as good as new: something was held just now
            self._some.set()

    async def watch(self) -> None:
        """Look again and again, as long as there are keys."""
        while True:
            await self._some.wait()
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except NotifierError as error:  # nobody knows what is held: the keys stay
                logs.event("overflow.unknown", logging.WARNING, why=str(error))
            if not self._since:
                self._some.clear()

    async def look(self) -> int:
        """Clear the keys of those for whom nothing is held any more for want of room; returns how many.

        Raises DatabaseUnavailable, and what the clearing raises; then the others are left for the next look.
        """
        before = self._clock() - YOUNG
        old = {place: key for key, since in self._since.items() if since <= before and (place := _place(key))}
        if not old:
            return 0
        waiting = await holding.wait_for_room(self._database, list(old))
        over = [
            key for place, key in old.items() if place not in waiting and self._since.get(key, before + 1) <= before
        ]
        for key in over:
            await self._clear(key)
            logs.event("overflow.over", key=key)
        return len(over)


def _place(key: str) -> tuple[str, str] | None:
    """The tier and the merchant that a key names."""
    tier, _, merchant = key.removeprefix(PREFIX).partition("/")
    return (tier, merchant) if merchant else None
