"""How many notifications there are of each status: counting reads an index from end to end, so it is done rarely."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from notifier.api.door import LedgerDoor
from notifier.ledger import notifications

#: Seconds that a count serves: at least so many, and so many times as long as it took.
FRESH, TIMES = 5.0, 50.0


class Totals:
    """Counts for all who ask."""

    def __init__(self, door: LedgerDoor) -> None:
        self._door = door
        self._counted: Mapping[str, int] = {}
        self._until = 0.0
        self._one_at_a_time = asyncio.Lock()

    async def read(self) -> Mapping[str, int]:
        """As they were some seconds ago. Raises DatabaseUnavailable."""
        async with self._one_at_a_time:
            began = time.monotonic()
            if began >= self._until:
                self._counted = await notifications.totals(self._door.database)
                ended = time.monotonic()
                self._until = ended + max(FRESH, TIMES * (ended - began))
            return self._counted
