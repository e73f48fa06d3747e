"""On time: never before the due moment, and hardly after it.

Never early is never. Hardly late is what is measured where nothing else keeps the machine busy: no other test runs
beside these, and what the machine does by itself may spoil one of a few tries.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from aiormq.channel import Channel
from publishing import publishing
from queues import Bench
from room import Scripted, at_work

from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.settings import Settings

pytestmark = pytest.mark.alone

COUNT = 300
#: Milliseconds. Generous: alone on two cores it is about 20.
BOUND = 250
TRIES = 3


class Stopwatch(Scripted):
    """Notes how long after its due moment each attempt started, in milliseconds; negative is early."""

    def __init__(self) -> None:
        super().__init__(Outcome.ok())
        self.late: list[float] = []

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        assert notification.due_at is not None
        self.late.append(time.time() * 1000 - notification.due_at)
        return await super().__call__(notification, merchant)


@pytest.fixture(autouse=True)
async def _idle_broker(deleting: Channel) -> None:
    """What the tests before left behind is gone: answered after all that it was told to delete."""
    await deleting.basic_qos(prefetch_count=1)


async def test_three_hundred_through_the_one_second_tier_are_never_early_and_hardly_late(
    broker, topology: Topology
) -> None:
    for _ in range(TRIES):
        late = await lateness_of_many(broker.url, topology)
        p99 = late[COUNT * 99 // 100]
        assert len(late) == COUNT
        assert late[0] >= 0, f"the earliest of {COUNT} started {-late[0]:.1f} ms before its due moment"
        if p99 < BOUND:
            break
    assert p99 < BOUND, f"p99 of {COUNT} was {p99:.1f} ms late (p50 {late[COUNT // 2]:.1f}, most {late[-1]:.1f})"


async def lateness_of_many(url: str, topology: Topology) -> list[float]:
    """Milliseconds, sorted."""
    stopwatch = Stopwatch()
    settings = Settings.received({"ladder": "1s"})
    async with (
        at_work(url, topology, stopwatch, tier=Tier(1)) as stage,
        publishing(url, topology) as publisher,
    ):
        recorder = Recorder(publisher, topology)
        entrance = Entrance(topology, publisher, recorder)
        async with asyncio.timeout(20):
            for _ in range(0, COUNT, 10):  # a few at a time, as producers do
                stated = (compose(settings, merchant="m1", payload=b"{}") for _ in range(10))
                await asyncio.gather(*map(entrance.accept, stated), asyncio.sleep(0.03))
        await stage.settled(COUNT)
        await entrance.flush()
        await recorder.close()
    return sorted(stopwatch.late)


async def test_after_a_failed_attempt_the_next_one_is_on_time_too(broker, topology: Topology, bench: Bench) -> None:
    for attempt in range(TRIES):
        second = Stopwatch()
        async with (
            at_work(broker.url, topology, Scripted(Outcome.failed("no"))),
            at_work(broker.url, topology, second, tier=Tier(1)) as last,
        ):
            for number in range(50):
                headers = {"merchant": "m1", "ladder": "0s,1s"}
                await bench.publish(topology.work, "0s", b"{}", headers, message_id=f"n{attempt}-{number}")
            await last.settled(50)
        assert min(second.late) >= 0
        if max(second.late) < BOUND:
            break
    assert max(second.late) < BOUND
