"""Who waits for room in a tier process, and the end of that.

A tier process that had no room for a merchant tells it in a key of the desired state, `overflow/TIER/MERCHANT`, and
from then on holds what newly arrives for it as well, so that nothing overtakes what is held. Only the ledger knows when
all of that is on its way again: then the agent of the same machine clears the key. While there is no such agent, or no
database, the key ends by itself; as long as somebody waits, it is set again before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from notifier import logs
from notifier.errors import NotifierError
from notifier.ledger import holding
from notifier.ledger.database import Database

PREFIX = "overflow/"
#: Seconds between two looks; and for which a key is left alone after it was set, since the first `held` facts of it may
#: be on their way to the ledger.
EVERY, YOUNG = 1.0, 2.0
#: Seconds after which a key ends by itself, and before which it is set again.
LASTING, RENEWED = 300.0, 200.0

#: Clears a key of the desired state; sets one, for so many seconds.
Clear = Callable[[str], Awaitable[object]]
Push = Callable[[str, Any, float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Key:
    """What it was last set to, and when that was heard."""

    value: Any
    since: float


class Overflows:
    """Follows the keys of this machine, and clears them. clock: seconds, that nobody sets."""

    def __init__(self, database: Database, clear: Clear, push: Push, clock: Callable[[], float]) -> None:
        self._database = database
        self._clear = clear
        self._push = push
        self._clock = clock
        self._keys: dict[str, _Key] = {}
        self._some = asyncio.Event()

    def follow(self, key: str, value: Any) -> None:
        """A key and its value now, None where it was cleared."""
        if value is None:
            self._keys.pop(key, None)
        else:
            self._keys[key] = _Key(value, self._clock())
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
            if not self._keys:
                self._some.clear()

    async def look(self) -> int:
        """Clear the keys of those for whom nothing is held any more for want of room; returns how many.

        Raises DatabaseUnavailable, and what clear and push raise; then the others are left for the next look.
        """
        now = self._clock()
        old = {place: key for key, each in self._keys.items() if now - each.since >= YOUNG and (place := _place(key))}
        if not old:
            return 0
        seen, ended = dict(self._keys), 0
        waiting = await holding.wait_for_room(self._database, list(old))
        for place, key in old.items():
            if self._keys.get(key) is not seen[key]:
                continue  # told again meanwhile: something has been held since
            if place not in waiting:
                await self._clear(key)
                ended += 1
                logs.event("overflow.over", key=key)
            elif now - seen[key].since >= RENEWED:
                await self._push(key, seen[key].value, LASTING)
        return ended


def _place(key: str) -> tuple[str, str] | None:
    """The tier and the merchant that a key names."""
    tier, _, merchant = key.removeprefix(PREFIX).partition("/")
    return (tier, merchant) if merchant else None
