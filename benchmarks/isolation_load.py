"""Who is notified in the isolation benchmark: a hundred merchants in turn, every tenth of whom may hang. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks import load
from benchmarks.load import Item

#: Of a hundred merchants, so many in the middle of ten: 5, 15, 25 and so on.
EVERY, WHICH = 10, 5
HANGING = load.MERCHANTS // EVERY


@dataclass(frozen=True, slots=True)
class Mixed:
    """What is sent in one run. others: those that may hang; the same merchants in every run, whether they do or not."""

    all: Sequence[Item]
    healthy: Sequence[Item]
    others: Sequence[Item]


def mixed(prefix: str, count: int, url: str, others_url: str) -> Mixed:
    """url: of the healthy merchants. others_url: of the others, the same one when nobody hangs."""
    every = [
        replace(item, url=others_url) if _may_hang(number % load.MERCHANTS) else item
        for number, item in enumerate(load.items(prefix, count, url))
    ]
    apart = [item for number, item in enumerate(every) if _may_hang(number % load.MERCHANTS)]
    healthy = [item for number, item in enumerate(every) if not _may_hang(number % load.MERCHANTS)]
    return Mixed(every, healthy, apart)


def _may_hang(merchant: int) -> bool:
    return merchant % EVERY == WHICH
