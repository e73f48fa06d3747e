"""A tier is a delay. Its canonical name is what stands in queue names and routing keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from notifier.errors import InvalidTier

#: Longest delay of a tier, seconds: x-message-ttl is milliseconds and the plugin takes at most 2^32-1 of them.
LONGEST = 49 * 86_400

_UNITS = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_SPELLED = re.compile(r"(?:[0-9]{1,9}[wdhms])+")
_PART = re.compile(r"([0-9]+)([wdhms])")


@dataclass(frozen=True, slots=True, order=True)
class Tier:
    """A delay in whole seconds, 0 to 49 days. Tiers order by their delay."""

    seconds: int

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= LONGEST:
            raise InvalidTier(f"a tier of {self.seconds} seconds is out of range: 0s to 49d are possible")

    @classmethod
    def parse(cls, text: str) -> Tier:
        """Read `5s`, `90s`, `1m30s`, `2h`: any mix of w, d, h, m, s with whole numbers, each unit once.

        Raises InvalidTier naming the text and what is expected.
        """
        spelled = text.strip()
        if not _SPELLED.fullmatch(spelled):
            raise InvalidTier(f"{text!r:.80} is not a tier: write a delay in whole seconds such as 5s, 1m30s, 2h or 1d")
        parts = _PART.findall(spelled)
        units = [unit for _, unit in parts]
        if len(set(units)) != len(units):
            raise InvalidTier(f"{text!r:.80} is not a tier: it names the same unit twice")
        scale = dict(_UNITS)
        seconds = sum(int(number) * scale[unit] for number, unit in parts)
        if seconds > LONGEST:
            raise InvalidTier(f"{text!r:.80} is longer than the longest possible tier, 49d")
        return cls(seconds)

    @property
    def name(self) -> str:
        """Canonical: whole seconds, largest unit first, no zero parts (`90s` → `1m30s`, `60s` → `1m`)."""
        return spelled(self.seconds)

    @property
    def milliseconds(self) -> int:
        """The delay as RabbitMQ wants it (x-message-ttl, x-delay)."""
        return self.seconds * 1000

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=1024)  # asked for several times per notification, for the few tiers there are
def spelled(seconds: int) -> str:
    """Whole seconds written canonically, as a tier's name is; of any length."""
    if seconds == 0:
        return "0s"
    rest, parts = seconds, []
    for unit, size in _UNITS[1:]:  # weeks are read but never written: 1w and 7d are one queue
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def covering(configured: Iterable[Tier], seconds: float) -> Tier:
    """The shortest configured tier that is not shorter than `seconds`, else the longest there is.

    This is where a message goes whose own tier is no longer configured, and one that carries `Retry-After`.
    """
    tiers = sorted(configured)
    return next((tier for tier in tiers if tier.seconds >= seconds), tiers[-1])
