"""What the circuit breakers say: whom nothing is released to now, and when one notification may go to try it.

Tier processes tell it in keys of the desired state, `breaker/MERCHANT`: `open` until a moment, from which on one may go
as the probe, or a little later where it is the turn of a new one (`domain/probing.py`); `half-open` until a moment at
which the probe that is under way counts as lost; no key: closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from notifier.domain import probing

PREFIX = "breaker/"
#: Seconds after which a probe that went and changed nothing has not come to an attempt, and another one may go.
PATIENCE = 15.0
#: Seconds after the moment at which one may go: the tier process's clock must have passed it, too.
MARGIN = 0.05


@dataclass(slots=True)
class _Open:
    """What was told, and from when on a probe may go, Unix seconds."""

    told: Any
    due: float


class Breakers:
    """Follows the keys. clock: Unix seconds. longest: seconds for which a breaker may be open or half-open at a time; a
    moment that is further ahead was told before a clock was set, and tier processes heed it no more, either.
    """

    def __init__(self, clock: Callable[[], float], longest: float) -> None:
        self._clock = clock
        self._longest = longest
        self._open: dict[str, _Open] = {}

    def follow(self, key: str, value: Any) -> None:
        """A key and its value now, None where it was cleared. The same once more changes nothing."""
        merchant = key.removeprefix(PREFIX)
        known = self._open.get(merchant)
        if value is None:
            self._open.pop(merchant, None)
        elif known is None or known.told != value:
            self._open[merchant] = _Open(value, self._due(value))

    def due(self, merchant: str) -> float | None:
        """From when on one notification may go as a probe, Unix seconds; None: as many as otherwise may."""
        known = self._open.get(merchant)
        if known is None:
            return None
        if known.due > (now := self._clock()) + max(self._longest + probing.TURN, PATIENCE) + MARGIN:
            known.due = now
        return known.due

    def is_soon(self, merchant: str) -> bool:
        """Whether one may go as a probe now, or while it has its turn, or as many as otherwise may."""
        known = self._open.get(merchant)
        return known is None or known.due < self._clock() + probing.TURN

    def probed(self, merchant: str, due: float) -> None:
        """One has gone that was due then: no other until something else is told, or this one must be lost."""
        known = self._open.get(merchant)
        if known is not None and known.due == due:
            known.due = self._clock() + PATIENCE

    def _due(self, value: Any) -> float:
        match value:
            case {"until": int() | float() as until}:
                return until / 1000 + probing.waits(probing.failed(value), new=False) + MARGIN
        return self._clock() + PATIENCE  # set by hand
