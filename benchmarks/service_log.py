"""What a service says of its attempts, read from its log in JSON. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import Arrival


@dataclass(slots=True)
class ServiceLog:
    """All that was said so far.

    late_ms: of each notification's first attempt, by the service's own clocks. attempts: how often each, by id and
    number. held: how often each notification, by id. reasons: how often for what. opened: merchants whose breaker did.
    """

    late_ms: dict[str, float | None] = field(default_factory=dict)
    attempts: Counter[tuple[str, int]] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    opened: set[str] = field(default_factory=set)

    def read(self, lines: Iterable[str]) -> None:
        """Some more lines. What is no JSON was said by something else, and not of attempts."""
        for line in lines:
            if line.startswith("{"):
                self._read(json.loads(line))

    def late_of(self, ids: Iterable[str]) -> list[float]:
        """Milliseconds of lateness of the first attempt of each of these.

        Raises BenchmarkFailed if one has none: nothing may look punctual because nobody measured it.
        """
        late = [(each, self.late_ms.get(each)) for each in ids]
        unmeasured = [each for each, ms in late if ms is None]
        if unmeasured:
            raise BenchmarkFailed(
                f"the service told no lateness of {len(unmeasured):,} notifications (such as {unmeasured[0]})"
            )
        return [ms for _, ms in late if ms is not None]

    def accounted(self, ids: Iterable[str]) -> bool:
        """Whether each of these was attempted or held at least once."""
        return all(each in self.late_ms or each in self.held for each in ids)

    def held_among(self, ids: Iterable[str]) -> str | None:
        """One line about those of these that were held although their merchants answer; None when none was."""
        held = [each for each in ids if each in self.held]
        return f"{len(held):,} notifications of healthy merchants were held (such as {held[0]})" if held else None

    def untrue_of(self, ids: Iterable[str], requests: Iterable[Arrival]) -> str | None:
        """One line about how the attempts told of for these differ from the requests that came; None if they do not."""
        these = set(ids)
        told = Counter[tuple[str, int | None]]({key: often for key, often in self.attempts.items() if key[0] in these})
        came = Counter((each.id, each.attempt) for each in requests)
        if came == told:
            return None
        (each, number) = next(iter((came - told) + (told - came)))
        return (
            f"to hanging merchants the service told of {told.total():,} attempts, and {came.total():,} requests came; "
            f"they differ in attempt {number} of {each}"
        )

    def _read(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"event": "attempt", "notification": str(each), "attempt": int(number)}:
                self.attempts[each, number] += 1
                self.late_ms.setdefault(each, event.get("late_ms"))
            case {"event": "held", "notification": str(each), "reason": str(reason)}:
                self.held[each] += 1
                self.reasons[reason] += 1
            case {"event": "breaker", "state": "open", "merchant": str(merchant)}:
                self.opened.add(merchant)
