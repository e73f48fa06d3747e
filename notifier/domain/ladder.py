"""A ladder is a sequence of tiers: one attempt after each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from notifier.domain.tier import Tier
from notifier.errors import InvalidLadder, InvalidTier

#: More rungs than any provider uses; bounds the `ladder` header.
MOST_STEPS = 64
#: Characters of a spelled ladder: enough for the longest, and no more of a header is parsed, cached or repeated.
MOST_SPELLED = 2048


@dataclass(frozen=True, slots=True)
class Ladder:
    """Tiers in the order in which they are waited through; 1 to 64 of them, repetitions allowed."""

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers:
            raise InvalidLadder("a ladder needs at least one tier, such as 1s,3s,5s")
        if len(self.tiers) > MOST_STEPS:
            raise InvalidLadder(f"a ladder of {len(self.tiers)} tiers is too long: at most {MOST_STEPS}")

    @classmethod
    def parse(cls, text: str) -> Ladder:
        """Read `1s,3s,5s` (commas or blanks between). Raises InvalidLadder naming the bad part and its place."""
        if len(text) > MOST_SPELLED:
            raise InvalidLadder(f"a ladder of {len(text)} characters is too long: at most {MOST_STEPS} tiers")
        return cls(_tiers(text))

    def __str__(self) -> str:
        return ",".join(tier.name for tier in self.tiers)

    def __len__(self) -> int:
        return len(self.tiers)

    def __iter__(self) -> Iterator[Tier]:
        return iter(self.tiers)

    def __getitem__(self, step: int) -> Tier:
        return self.tiers[step]

    @property
    def total(self) -> int:
        """Seconds from acceptance to the last attempt, if every callback took no time."""
        return sum(tier.seconds for tier in self.tiers)

    def require(self, configured: Collection[Tier]) -> Ladder:
        """This ladder, if every tier of it is configured; raises InvalidLadder listing the known ones."""
        unknown = [tier.name for tier in dict.fromkeys(self.tiers) if tier not in configured]
        if unknown:
            known = ", ".join(tier.name for tier in sorted(configured))
            raise InvalidLadder(
                f"ladder {self} names {', '.join(unknown)}, which no process serves; configured tiers: {known}"
            )
        return self


@lru_cache(maxsize=1024)  # every message of a ladder spells it the same way
def _tiers(text: str) -> tuple[Tier, ...]:
    parts = text.replace(",", " ").split()
    tiers: list[Tier] = []
    for place, part in enumerate(parts, start=1):
        try:
            tiers.append(Tier.parse(part))
        except InvalidTier as error:
            raise InvalidLadder(f"tier {place} of ladder {text!r:.80}: {error}") from None
    if not tiers:
        raise InvalidLadder(f"{text!r:.80} is not a ladder: write tiers with commas between, such as 1s,3s,5s")
    return tuple(tiers)


#: Ladders of the field (FACTS §7): this project's seeds, WeChat Pay v3, Alipay, the Standard Webhooks example.
PRESETS: Mapping[str, Ladder] = MappingProxyType(
    {
        "default": Ladder.parse("1s 3s 5s 15s 30s"),
        "wechat": Ladder.parse("15s 15s 30s 3m 10m 20m 30m 30m 30m 60m 3h 3h 3h 6h 6h"),
        "alipay": Ladder.parse("0s 4m 10m 10m 1h 2h 6h 15h"),
        "standard-webhooks": Ladder.parse("0s 5s 5m 30m 2h 5h 10h 14h 20h 24h"),
    }
)


def named(text: str, ladders: Mapping[str, Ladder] = PRESETS) -> Ladder:
    """A ladder by its name (`wechat`) or spelled out (`1s,3s`). Raises InvalidLadder listing the names."""
    if text.strip() in ladders:
        return ladders[text.strip()]
    try:
        return Ladder.parse(text)
    except InvalidLadder as error:
        raise InvalidLadder(f"{error}; or name one of: {', '.join(ladders)}") from None
