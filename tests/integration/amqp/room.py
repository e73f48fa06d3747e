"""A delivery room at work on a real broker, with a callback that does as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from notifier.broker.consumer import Consumer, Delivery
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.breaker import Breakers
from notifier.delivery.delivery import DeliveryRoom
from notifier.delivery.facts import Recorder
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.sections import Isolation

Answer = Outcome | BaseException
AT_ONCE = Tier(0)
DEFAULT_LADDER = Ladder.parse("0s,5s,1s")
#: For what is not about isolation: nothing is held for want of room.
ROOMY = Isolation(share=1)


class Scripted:
    """A callback: answers in turn, the last one for ever; waits before each while `gate` is clear."""

    def __init__(self, *answers: Answer, needs_url: bool = False) -> None:
        self._answers = list(answers) or [Outcome.ok()]
        self.needs_url = needs_url
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[Notification] = []
        self._called = asyncio.Condition()

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        """The next answer, or the exception that stands in its place."""
        answer = self._answers[min(len(self.calls), len(self._answers) - 1)]
        async with self._called:
            self.calls.append(notification)
            self._called.notify_all()
        await self.gate.wait()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def called(self, times: int = 1, timeout: float = 10) -> list[Notification]:
        """Wait until it was called so many times."""
        async with asyncio.timeout(timeout), self._called:
            await self._called.wait_for(lambda: len(self.calls) >= times)
        return self.calls


@dataclass
class Stage:
    """A room and all around it. topology: declared. settled: awaits that nothing is in flight any more."""

    topology: Topology
    tier: Tier
    publisher: Publisher
    recorder: Recorder
    callback: Scripted
    room: DeliveryRoom
    consumer: Consumer
    deliveries: list[Delivery] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def delivered(self, count: int) -> None:
        """Wait until so many deliveries came, redeliveries included."""
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: len(self.deliveries) >= count)

    @property
    def queue(self) -> str:
        """The work queue that it consumes."""
        return self.topology.work_queue(self.tier)

    async def settled(self, calls: int = 1) -> list[Notification]:
        """Wait for so many callbacks, then until nothing is in flight."""
        await self.callback.called(calls)
        await self.drained()
        return self.callback.calls

    async def drained(self) -> None:
        """Wait until nothing is in flight."""
        async with asyncio.timeout(10):
            await self.room.drained()


@asynccontextmanager
async def at_work(
    urls: str | Sequence[str],
    topology: Topology,
    callback: Scripted,
    *,
    tier: Tier = AT_ONCE,
    merchants: Sequence[Merchant] = (),
    most_payload: int = 10_000,
    prefetch: int = 50,
    recorder: Callable[[Publisher, Topology], Recorder] = Recorder,
    publisher: Callable[..., Publisher] = Publisher,
    consumer_urls: str | Sequence[str] | None = None,
    wrapped: Callable[[Publisher, Delivery], Delivery] | None = None,
    intake: Callable[[DeliveryRoom], Callable[[Delivery], object]] | None = None,
    lookup: Callable[[str], Merchant | None] | None = None,
    cancelled: Callable[[str, int], str | None] | None = None,
    isolation: Isolation | None = None,
    breakers: Breakers | None = None,
    overflowed: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Stage]:
    """A room that works on a tier for the length of the block.

    consumer_urls: where the consumer connects instead. wrapped: what the room gets in the place of each delivery.
    intake: who takes deliveries in place of the room. lookup: who knows the merchants in place of `merchants`.
    """
    urls = [urls] if isinstance(urls, str) else urls
    consumer_urls = [consumer_urls] if isinstance(consumer_urls, str) else consumer_urls or urls
    publishing = publisher(urls, topology)
    recording = recorder(publishing, topology)
    known = {merchant.id: merchant for merchant in merchants}
    room = DeliveryRoom(
        tier,
        topology.tiers,
        DEFAULT_LADDER,
        topology,
        publishing,
        recording,
        callback,
        lookup or known.get,
        most_payload=most_payload,
        cancelled=cancelled,
        isolation=isolation or ROOMY,
        prefetch=prefetch,
        breakers=breakers,
        overflowed=overflowed,
        clock=clock,
    )
    deliveries: list[Delivery] = []
    news = asyncio.Condition()

    async def tell() -> None:
        async with news:
            news.notify_all()

    def take(delivery: Delivery) -> None:
        if wrapped is not None:
            delivery = wrapped(publishing, delivery)
        deliveries.append(delivery)
        hand_over(delivery)
        telling.add(task := asyncio.ensure_future(tell()))
        task.add_done_callback(telling.discard)

    hand_over = room.take if intake is None else intake(room)
    telling: set[asyncio.Future[None]] = set()
    consumer = Consumer(consumer_urls, topology, topology.work_queue(tier), prefetch, take)
    try:
        await publishing.start(10)
        await consumer.start(10)
        yield Stage(topology, tier, publishing, recording, callback, room, consumer, deliveries, news)
    finally:
        await consumer.close()
        await room.abandon()
        await recording.close()
        await publishing.close()
