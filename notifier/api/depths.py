"""How many messages lie in the queues, asked of the broker at most once a second however many want to know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from notifier.broker.connection import Link, open_once
from notifier.broker.inspect import Look
from notifier.broker.topology import Topology
from notifier.errors import BrokerError

#: Seconds that an answer serves.
FRESH = 1.0
#: Seconds for the broker to be reached, and to answer.
PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Messages by tier name. waiting: for their moment. due: for a process. consumers: on the work queue
    that has fewest.

    facts: on their way to the ledger. poison: our own fault. at: Unix seconds.
    """

    waiting: Mapping[str, int]
    due: Mapping[str, int]
    consumers: Mapping[str, int]
    facts: int
    poison: int
    at: float


class Depths:
    """Reads the depths of one namespace over a connection of its own, made when somebody first asks."""

    def __init__(self, urls: Sequence[str], topology: Topology, clock: Callable[[], float] = time.monotonic) -> None:
        self._urls = urls
        self._topology = topology
        self._clock = clock
        self._link: Link | None = None
        self._reading: Reading | None = None
        self._read_at = 0.0
        self._one_at_a_time = asyncio.Lock()

    @property
    def last(self) -> Reading | None:
        """The newest reading, however old."""
        return self._reading

    async def read(self) -> Reading:
        """At most `FRESH` seconds old. Raises BrokerError when the broker does not tell."""
        async with self._one_at_a_time:
            if self._reading is None or self._clock() - self._read_at > FRESH:
                try:
                    async with asyncio.timeout(PATIENCE):
                        self._reading = await self._asked()
                except TimeoutError:
                    raise BrokerError(f"the broker did not tell its queues' depths within {PATIENCE:g} s") from None
                self._read_at = self._clock()
            return self._reading

    async def close(self) -> None:
        """Twice is fine."""
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()

    async def _asked(self) -> Reading:
        if self._link is None:
            self._link = await open_once(self._urls, "api depths", PATIENCE)
        look = Look(await self._link.channel())
        tiers, topology = self._topology.tiers, self._topology
        waits = [tier for tier in tiers if tier.seconds]
        work = {tier: topology.work_queues(tier) for tier in tiers}
        due = [queue for queues in work.values() for queue in queues]
        names = [*map(topology.wait_queue, waits), *due, topology.ledger, topology.poison]
        states = dict(zip(names, await asyncio.gather(*map(look.queue, names)), strict=True))
        ready = {name: 0 if state is None else state.ready for name, state in states.items()}
        consumers = {name: 0 if state is None else state.consumers for name, state in states.items()}
        return Reading(
            waiting={tier.name: ready.get(topology.wait_queue(tier), 0) for tier in tiers},
            due={tier.name: sum(ready[queue] for queue in queues) for tier, queues in work.items()},
            consumers={tier.name: min(consumers[queue] for queue in queues) for tier, queues in work.items()},
            facts=ready[topology.ledger],
            poison=ready[topology.poison],
            at=time.time(),
        )
