"""How many come a second: a count that fades, so that the last moments count most and nothing is kept of each."""

from __future__ import annotations

from math import exp

#: Seconds in which what was counted fades to a third. Long enough that twenty a second, as they happen to come, do not
#: look like forty; short enough that the end of a burst shows within seconds.
FADES = 2.0


class Inflow:
    """Moments are seconds of a steady clock."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0.0
        self._since = 0.0

    def count(self, now: float) -> None:
        """One more has come."""
        self._count = self._left(now) + 1.0
        self._since = now

    def rate(self, now: float) -> float:
        """So many a second. Just after the first ones have come it is less than that: nobody knows yet."""
        return self._left(now) / FADES

    def _left(self, now: float) -> float:
        return self._count * exp((self._since - now) / FADES)
