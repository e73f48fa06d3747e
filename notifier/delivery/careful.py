"""A careful start after an unclean death: find the message that kills its process, and take no innocent one with it.

After such a death the broker delivers again what was in flight, before anything new. It is worked one at a time, each
told to the master before it is touched, so that the next death has a name. Three deaths alone, and a message goes to
poison unworked. The delivery count alone would blame all that were in flight, and counts pauses as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from notifier import logs
from notifier.broker.consumer import Delivery
from notifier.delivery.delivery import DeliveryRoom
from notifier.delivery.inflight import key_of

#: Prefetch while careful: what dies together ages together (FACTS §1), so few are held.
PREFETCH = 16
#: Deaths of its process, alone in it, after which a message is condemned.
DEATHS = 3
#: Seconds that a message has to itself before the next one may start beside it: one that waits for a slow merchant
#: must not stop its tier. After a death in company there is no such leave (`strict`).
PROBATION = 0.25
#: Seconds without a delivery after which nothing is expected to be redelivered any more.
_QUIET = 1.0


class Witness(Protocol):
    """Whoever survives the death of this process: the master."""

    async def claim(self, keys: Sequence[str]) -> None:
        """Return once it knows what is being worked on from now on."""

    async def calm(self) -> None:
        """The careful time is over."""


class CarefulStart:
    """Takes deliveries in place of the room until what was redelivered is settled.

    deaths: deaths alone in the process, by key. strict: never two at a time.
    """

    def __init__(self, room: DeliveryRoom, witness: Witness, deaths: Mapping[str, int], *, strict: bool) -> None:
        self._room = room
        self._witness = witness
        self._deaths = deaths
        self._probation = None if strict else PROBATION
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()
        self._working: dict[asyncio.Task[None], str] = {}

    def take(self, delivery: Delivery) -> None:
        """Keep a delivery until its turn."""
        self._waiting.put_nowait(delivery)

    async def give_back(self) -> None:
        """Return to the queue what still waits for its turn; only with the consumer cancelled."""
        while not self._waiting.empty():
            await self._waiting.get_nowait().give_back()

    async def run(self, taking: Callable[[], Awaitable[object]]) -> None:
        """Return when the redelivered ones are settled; what is still waiting then was not touched.

        taking: returns once deliveries can come, and what stands for that time of taking.
        """
        worked = 0
        while (delivery := await self._next(taking)) is not None:
            await self._work_alone(delivery)
            worked += 1
        if self._probation is None and self._working:
            await asyncio.wait(self._working)
        await self._witness.calm()
        logs.event("careful.over", worked=worked)

    async def _next(self, taking: Callable[[], Awaitable[object]]) -> Delivery | None:
        """The next redelivered one; redelivered ones come first, so a fresh one, or quiet, says they are through."""
        while True:
            time_of_taking = await taking()
            try:
                async with asyncio.timeout(_QUIET):
                    delivery = await self._waiting.get()
            except TimeoutError:
                if await taking() is time_of_taking:
                    return None
                continue  # it was quiet because nothing could come
            if not delivery.stale:  # a stale one comes again
                return delivery if delivery.redelivered else None

    async def _work_alone(self, delivery: Delivery) -> None:
        key = key_of(delivery.message)
        deaths = self._deaths.get(key, 0)
        if deaths >= DEATHS:
            reason = f"its process died {deaths} times while it was the only message being worked on"
            task = self._room.condemn(delivery, reason)
        else:
            logs.event("careful.work", logging.DEBUG, key=key, deaths=deaths)
            await self._witness.claim([*self._still_working(), key])
            if delivery.stale:  # the master stood still for that long: it comes again, here or on another machine
                return
            task = self._room.take(delivery)
        if task is None:
            return
        self._working[task] = key
        await asyncio.wait([task], timeout=self._probation)
        if self._waiting.empty():
            await self._witness.claim(self._still_working())

    def _still_working(self) -> list[str]:
        self._working = {task: key for task, key in self._working.items() if not task.done()}
        return list(self._working.values())
