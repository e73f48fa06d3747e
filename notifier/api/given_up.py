"""What a request gave up is not taken back: RabbitMQ may get it all the same. So, while it is silent, nothing is added.

While RabbitMQ reads nothing (a memory or disk alarm), or does not confirm, each request would leave its copies on the
way; those of a client that sends the same again and again would all come out at once when it is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from notifier.api.problems import Problem
from notifier.broker.publisher import Publisher
from notifier.domain.tier import Tier

#: Seconds after which one more request is let through to a tier that confirms nothing: it finds out whether only an
#: earlier publish was forgotten, which nobody else would if that tier were the only one in use.
ONE_MORE = 30.0
_AGAIN = "so it is not accepted; send it again, with the same ids or Idempotency-Key"


class GivenUp:
    """Publishes that nobody waits for any more, until each is confirmed or its connection is lost.

    clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[Tier, set[asyncio.Task[Any]]] = {}
        #: When the broker was last found silent about a tier, or last tried.
        self._tried: dict[Tier, float] = {}

    def __len__(self) -> int:
        """How many are on their way."""
        return sum(len(left) for left in self._left.values())

    def check(self, publisher: Publisher, tiers: Collection[Tier]) -> None:
        """Raises Problem, before anything is sent, while the broker takes nothing, or has yet to confirm what was given
        up for one of these tiers. A tier whose queue has no leader keeps no other from being used.
        """
        if publisher.blocked:
            raise Problem("unavailable", f"RabbitMQ takes nothing now (it has a memory or disk alarm), {_AGAIN}")
        now = self._clock()
        silent = {tier for tier in tiers if tier in self._left}
        for tier in silent:
            if now - self._tried[tier] < ONE_MORE:
                raise Problem("unavailable", f"RabbitMQ does not confirm what goes to tier {tier.name} now, {_AGAIN}")
        self._tried.update(dict.fromkeys(silent, now))

    def leave(self, publisher: Publisher, publishing: Mapping[asyncio.Task[Any], Tier]) -> None:
        """Give these up: each goes on until the broker confirms it, so that it is known how many there are. The end of
        the connection ends it: it is not repeated on the next one, since its client does that.
        """
        if not publishing:
            return
        ending, on_their_way = publisher.ending, dict(publishing)
        if ending is None:  # no connection, so nothing is on its way
            _cancel(publishing)
            return

        def ended(task: asyncio.Task[Any]) -> None:
            self._forget(task, on_their_way.pop(task))
            if not on_their_way:
                ending.cancel()  # connections live long

        ending.add_done_callback(lambda _: _cancel(on_their_way))
        for task, tier in publishing.items():
            self._left.setdefault(tier, set()).add(task)
            self._tried[tier] = self._clock()
            task.add_done_callback(ended)

    def _forget(self, task: asyncio.Task[Any], tier: Tier) -> None:
        left = self._left[tier]
        left.discard(task)
        if not left:
            del self._left[tier], self._tried[tier]


def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
