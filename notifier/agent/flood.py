"""So that operators are told and not flooded: when happenings of one kind are told, and whether one by one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from notifier.domain.operations import Happening

#: Seconds in which what happens at the same time is gathered.
GATHER = 2.0
#: Happenings of which an event tells more than that they are.
EXAMPLES = 10

#: The first happenings of those that are to be told in one event, and how many there are of them.
Batch = tuple[Sequence[Happening], int]


class Gate:
    """Lets at most `burst` events through in `interval` seconds; what comes beyond is counted, and told in one event
    when they are over. now: seconds, steady.
    """

    def __init__(self, burst: int, interval: float) -> None:
        self._burst = burst
        self._interval = interval
        self._pending: list[Happening] = []
        self._count = 0
        self._first = 0.0
        self._opened = 0.0
        self._told = 0

    def add(self, happening: Happening, now: float) -> None:
        """It is told later, by itself or counted."""
        if not self._count:
            self._first = now
        self._count += 1
        if len(self._pending) < EXAMPLES:
            self._pending.append(happening)

    @property
    def due(self) -> float | None:
        """When something is to be told; None: there is nothing."""
        if not self._count:
            return None
        gathered = self._first + GATHER
        return gathered if self._told < self._burst else max(gathered, self._opened + self._interval)

    def take(self, now: float) -> list[Batch]:
        """What is to be told now."""
        if self.due is None or now < self.due:
            return []
        return self.rest(now)

    def rest(self, now: float) -> list[Batch]:
        """All that there is, without waiting."""
        pending, count = self._pending, self._count
        self._pending, self._count = [], 0
        if not count:
            return []
        if not self._told or now >= self._opened + self._interval:
            self._opened, self._told = now, 0
        if count <= min(len(pending), self._burst - self._told):
            self._told += count
            return [([each], 1) for each in pending]
        self._told += 1
        return [(pending, count)]
