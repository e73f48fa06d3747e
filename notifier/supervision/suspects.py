"""Who kills? What was worked on when a child died, so that a killer is found and no innocent one is blamed.

A child that died starts careful: it says what it works on (a claim of opaque keys) before it does, and works on little
at once. A key that was claimed alone at `CONDEMNED` unclean deaths is a killer beyond doubt; the child that is told so
at its start leaves it alone. Deaths with several keys claimed blame none of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

#: Deaths alone after which a key is condemned.
CONDEMNED = 3
#: Keys remembered per slot; the one longest without a death is forgotten first.
KEYS_LIMIT = 1000
#: Characters of one key, and of all remembered ones: a snapshot fits into one frame.
KEY_LIMIT = 256
CHARACTERS_LIMIT = 64 * 1024


class Suspects:
    """The memory of one slot over its incarnations: pure, no clock and no effect."""

    def __init__(self) -> None:
        self._careful = 0
        self._claimed: frozenset[str] = frozenset()
        self._deaths: OrderedDict[str, int] = OrderedDict()

    def snapshot(self) -> dict[str, Any]:
        """What the next incarnation is told at its start; from here on it claims nothing yet.

        careful: 0 the last end was clean, or calm; 1 it died; 2 it died while careful with not exactly one key claimed,
        so that only one at a time, without an end to it, can find the killer.
        """
        self._claimed = frozenset()
        return {"careful": self._careful, "deaths": dict(self._deaths)}

    def claim(self, keys: Sequence[str]) -> None:
        """The child works on exactly these from now on."""
        self._claimed = frozenset(keys)

    def calm(self) -> None:
        """The child has left behind what was suspect. Deaths stay: a killer may come back."""
        self._careful = 0
        self._claimed = frozenset()

    def ended_cleanly(self) -> None:
        """The child ended as it should."""
        self._careful = 0
        self._claimed = frozenset()

    def died(self, *, was_ready: bool) -> None:
        """The child ended otherwise. was_ready: it had said READY, so it may have worked."""
        if len(self._claimed) == 1:
            (alone,) = self._claimed
            self._blame(alone)
            self._careful = max(self._careful, 1)
        elif self._careful and (was_ready or self._claimed):
            self._careful = 2
        else:  # it died in ordinary work, or before any work: then what it claimed says nothing
            self._careful = max(self._careful, 1)
        self._claimed = frozenset()

    def _blame(self, key: str) -> None:
        self._deaths[key] = self._deaths.pop(key, 0) + 1
        while len(self._deaths) > KEYS_LIMIT or sum(map(len, self._deaths)) > CHARACTERS_LIMIT:
            self._deaths.popitem(last=False)
