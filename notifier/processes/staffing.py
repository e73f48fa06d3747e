"""Which work queues a service has processes for: those of the settings, and those that the namespace ever had.

A tier that is in no ladder any more and a partition that is fed no more keep their processes until they are pruned, on
every machine: what waits there comes out, wherever and by whichever settings it was put in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from notifier.domain.tier import Tier
from notifier.settings import Settings


@dataclass(frozen=True, slots=True)
class Post:
    """A work queue to be served. partition: None in a tier without any. retired: nothing new is led into it."""

    tier: Tier
    partition: int | None
    retired: bool

    @property
    def name(self) -> str:
        """What people call it: `5s`, `5s.2`."""
        return self.tier.name if self.partition is None else f"{self.tier.name}.{self.partition}"

    @property
    def slot(self) -> str:
        """The name of its process's slot."""
        return f"tier:{self.name}"


@dataclass(frozen=True, slots=True)
class Staffing:
    """What is known of a namespace's work queues. As a word on the control line: `word` and `read`.

    tiers: all that it ever had. partitions: the number now. old: partitions that were fed before, None the queue of a
    time without any. leaving: slots that somebody is pruning just now.
    """

    tiers: tuple[Tier, ...]
    partitions: int
    old: tuple[int | None, ...] = ()
    leaving: tuple[str, ...] = ()

    @classmethod
    def stated(cls, settings: Settings) -> Self:
        """As the settings have it: before the record was read."""
        return cls(settings.tiers, settings.partitions)

    @classmethod
    def read(cls, word: Any) -> Self:
        """What `word` wrote."""
        return cls(
            tuple(Tier.parse(name) for name in word["tiers"]),
            int(word["partitions"]),
            tuple(word["old"]),
            tuple(word["leaving"]),
        )

    def word(self) -> Mapping[str, Any]:
        """JSON values."""
        return {
            "tiers": [tier.name for tier in self.tiers],
            "partitions": self.partitions,
            "old": list(self.old),
            "leaving": list(self.leaving),
        }

    def posts(self, configured: Sequence[Tier], chosen: Sequence[Tier] | None = None) -> Iterator[Post]:
        """The queues to be served. chosen: only these tiers, None for all configured ones and those of old."""
        now: Sequence[int | None] = (None,) if self.partitions == 1 else range(self.partitions)
        retired = [tier for tier in self.tiers if tier not in configured]
        for tier in configured if chosen is None else chosen:
            yield from (Post(tier, partition, retired=False) for partition in now)
        for tier in configured if chosen is None else chosen:
            yield from self._staying(Post(tier, partition, retired=True) for partition in self.old)
        for tier in retired if chosen is None else ():
            yield from self._staying(Post(tier, partition, retired=True) for partition in (*now, *self.old))

    def _staying(self, posts: Iterator[Post]) -> Iterator[Post]:
        return (post for post in posts if post.slot not in self.leaving)
