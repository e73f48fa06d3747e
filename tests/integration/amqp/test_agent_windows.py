"""What is held goes on in windows, in order, at the merchant's rate and by what its breaker says: the keeper at work
on a real broker and both databases, with a tier process that only takes what comes and tells what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from ledgers import attempts, held, notification, rows, until
from queues import Bench
from releasing import Stage, staged

from notifier.agent import keeping, release
from notifier.agent.breakers import MARGIN
from notifier.agent.keeping import Keeper
from notifier.agent.pace import Pace
from notifier.agent.replaying import Replaying
from notifier.broker.topology import Topology
from notifier.domain import wire
from notifier.domain.decision import HoldReason
from notifier.domain.merchant import Standing
from notifier.domain.notification import Notification
from notifier.domain.tier import Tier
from notifier.errors import DatabaseUnavailable
from notifier.ledger import holding

TIER = Tier(1)


@pytest.fixture
async def stage(broker: Any, bench: Bench, topology: Topology, declared: None, ledger_url: str) -> AsyncIterator[Stage]:
    async with staged(broker.url, bench, topology, ledger_url, concurrency=20, clock=time.time) as stage:
        yield stage


class Idle:
    """Stands for the replays, of which there are none."""

    started = asyncio.Event()

    async def round(self) -> bool:
        """Nothing to do."""
        return False


async def _nothing_to_prune() -> bool:
    return False


@contextlib.asynccontextmanager
async def kept(stage: Stage) -> AsyncIterator[Keeper]:
    """The keeper at work for the length of the block."""
    keeper = Keeper(stage.database, stage.release, cast(Replaying, Idle()), _nothing_to_prune, "this")
    keeper.start()
    try:
        yield keeper
    finally:
        await keeper.close()


class FakeTier:
    """Takes what comes into a work queue, one message after the other, and tells of an attempt when it has as many
    under way as there are at most, or nothing more comes. most: what was ever under way at once.
    """

    def __init__(self, stage: Stage) -> None:
        self.came: list[Notification] = []
        self.at: list[float] = []
        self.most = 0
        self.done = 0
        self._stage = stage
        self._under_way: asyncio.Queue[Notification] = asyncio.Queue()

    async def take(self, count: int, *, fails: bool = False) -> None:
        """Until so many have come in all and every attempt is told."""
        telling = asyncio.create_task(self._tell(count))
        queue = self._stage.topology.work_queue(TIER)
        async for raw in self._stage.bench.stream(queue, count, timeout=800):
            self.came.append(wire.read(_message(raw)))
            self.at.append(time.monotonic())
            self.most = max(self.most, len(self.came) - self.done, self._stage.release.released - self.done)
            self._under_way.put_nowait(self.came[-1])
        await telling

    async def _tell(self, count: int) -> None:
        while self.done < count:
            ready = [await self._under_way.get()]
            while not self._under_way.empty():
                ready.append(self._under_way.get_nowait())
            facts = [fact for each in ready for fact in attempts(each)]
            self.most = max(self.most, self._stage.release.released - self.done)
            await self._stage.store(*facts)
            self.done += len(ready)


def _message(raw: Any) -> wire.Message:
    return wire.Message(raw.body, dict(raw.headers), raw.content_type, raw.message_id, raw.correlation_id)


async def burst(stage: Stage, count: int, merchant: str = "m1", reason: HoldReason = HoldReason.NO_ROOM) -> list[str]:
    """So many held ones, accepted one millisecond after the other; their names in that order, which is not the one in
    which the ledger heard of them.
    """
    first = int(time.time() * 1000) - count
    each = [notification(f"{merchant}-{number:05}", merchant, enqueued_at=first + number) for number in range(count)]
    told = [fact for one in each[1::2] + each[0::2] for fact in held(one, reason)]
    for start in range(0, count, 500):
        await stage.store(*told[start : start + 500])
    return [one.id for one in each]


@pytest.mark.parametrize(
    ("count", "window"),
    [
        (500, 50),
        pytest.param(2000, 5, marks=[pytest.mark.long, pytest.mark.timeout(400)]),
        pytest.param(10_000, 100, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
async def test_a_burst_arrives_completely_in_order_and_never_more_at_once_than_the_window(
    stage: Stage, count: int, window: int
) -> None:
    await stage.becomes("m1", Standing.ENABLED, concurrency=window)
    names = await burst(stage, count)
    tier = FakeTier(stage)
    async with kept(stage):
        await tier.take(count)
    assert [each.id for each in tier.came] == names, "all, once, the oldest first"
    assert window / 2 <= tier.most <= window
    assert all(each.released is not None and each.run == 1 for each in tier.came)
    assert await holding.count(stage.database) == 0
    left = await rows(stage.database, "SELECT id FROM notifications WHERE stands <> 'completed'")
    assert left == []


async def test_a_merchant_with_many_keeps_nobody_waiting(stage: Stage) -> None:
    for merchant in ("many", "few"):
        await stage.becomes(merchant, Standing.ENABLED, concurrency=5)
    await burst(stage, 100, "many")
    await burst(stage, 2, "few", HoldReason.DISABLED)
    tier = FakeTier(stage)
    async with kept(stage):
        await tier.take(102)
    assert sorted(each.id for each in tier.came[:7] if each.merchant == "few") == ["few-00000", "few-00001"]


async def test_what_is_released_and_not_attempted_holds_the_next_back_for_a_minute_and_no_longer(
    broker: Any, bench: Bench, topology: Topology, declared: None, ledger_url: str
) -> None:
    async with staged(broker.url, bench, topology, ledger_url, concurrency=5) as stage:
        await stage.becomes("m1", Standing.ENABLED)
        await burst(stage, 12)
        assert await stage.release.round() == 5
        for seconds in (1, 30, 28):
            stage.now[0] += seconds
            assert await stage.release.round() == 0
        stage.now[0] += 2
        assert await stage.release.round() == 5, "a tier that is paused, or a queue that was deleted, ends nothing"
        came = [wire.read(message) for message in await bench.take(topology.work_queue(TIER), 10)]
        await stage.store(*(fact for each in came for fact in attempts(each)))
        assert await stage.release.round() == 2


async def test_where_all_comes_back_unattempted_one_is_tried_ever_more_rarely(
    broker: Any, bench: Bench, topology: Topology, declared: None, ledger_url: str
) -> None:
    """As where a breaker is open on a machine that this one hears nothing of."""
    async with staged(broker.url, bench, topology, ledger_url, concurrency=5) as stage:
        await stage.becomes("m1", Standing.ENABLED)
        await burst(stage, 100, reason=HoldReason.BREAKER_OPEN)
        released = []
        for _ in range(100):
            count = await stage.release.round()
            came = [wire.read(message) for message in await bench.take(topology.work_queue(TIER), count)]
            await stage.store(*(fact for each in came for fact in held(each, HoldReason.BREAKER_OPEN)))
            released.append(count)
            stage.now[0] += 1
        assert [(second, count) for second, count in enumerate(released) if count] == [
            (0, 5),  # a window
            (5, 1),  # known to have come back at 1
            (14, 1),
            (31, 1),
            (64, 1),
        ]


@pytest.mark.alone
async def test_a_rate_is_kept(stage: Stage) -> None:
    await stage.becomes("m1", Standing.ENABLED, rate=20.0)
    names = await burst(stage, 85)
    tier = FakeTier(stage)
    async with kept(stage):
        await tier.take(85)
    assert [each.id for each in tier.came] == names
    took = tier.at[-1] - tier.at[4]  # five may go at once
    assert 80 / took == pytest.approx(20, rel=0.1)


async def test_whom_the_rate_of_all_together_left_nothing_is_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "ROUND", 60.0)  # it does not end before the third had its turn
    for merchant in ("m1", "m2", "m3"):
        await stage.becomes(merchant, Standing.ENABLED)
        await burst(stage, 40, merchant)
    stage.release._pace = Pace(20.0)
    count = await stage.release.round()
    assert 3 <= count <= 60
    came = await stage.bench.take(stage.topology.work_queue(TIER), count)
    first = {wire.read(message).merchant for message in came[:15]}  # five may go at once
    assert first == {"m1", "m2", "m3"}


async def test_what_is_released_goes_evenly(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes in a lump keeps waiting what is due beside it."""
    await stage.becomes("m1", Standing.ENABLED)
    await burst(stage, 20)
    stage.release._pace = Pace(100.0)
    publish, at = stage.publisher.publish_by, []

    async def noted(*arguments: Any) -> None:
        at.append(time.monotonic())
        await publish(*arguments)

    monkeypatch.setattr(stage.publisher, "publish_by", noted)
    assert await stage.release.round() == 20
    assert at[-1] - at[0] >= 19 * 0.008 - 0.001


@pytest.fixture
def only_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look by itself within the time of a test: what happens then was woken, or its moment was known."""
    monkeypatch.setattr(keeping, "ROUND", 3600.0)
    monkeypatch.setattr(release, "LATEST", 3600.0)
    monkeypatch.setattr(release, "PART", 1e6)


@pytest.mark.alone
async def test_an_open_breaker_lets_one_probe_go_at_its_moment_and_all_when_it_closes(
    stage: Stage, only_events: None
) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    names = await burst(stage, 10, reason=HoldReason.BREAKER_OPEN)
    due = time.time() + 1.5
    stage.breakers.follow("breaker/m1", {"state": "open", "until": int(due * 1000), "probes": 1})
    queue = stage.topology.work_queue(TIER)
    async with kept(stage) as keeper:
        (probe,) = [wire.read(message) for message in await stage.bench.take(queue)]
        assert time.time() - due == pytest.approx(0.25 + MARGIN, abs=0.25), "not before, and not long after"
        assert probe.id == names[0]
        await stage.store(*attempts(probe))
        for _ in range(3):
            keeper.wake()
            assert await stage.release.round() == 0, "one"
        stage.breakers.follow("breaker/m1", None)
        keeper.wake()
        came = [wire.read(message).id for message in await stage.bench.take(queue, 9, timeout=5)]
        assert came == names[1:]
        await until(lambda: stage.release.released == 10, "the last ones to be marked")


async def test_an_overflow_is_looked_after_at_once(stage: Stage) -> None:
    """Whoever hears that there is no room expects what is held for it, though its fact may still be on the way."""
    stage.release._moved = time.monotonic() - 3600
    assert stage.release.pause == release.LATEST
    async with kept(stage) as keeper:
        keeper.wake()
        assert stage.release.pause == release.SOONEST


async def test_a_round_that_stood_still_for_minutes_is_followed_by_no_rest_of_hours(stage: Stage) -> None:
    """A publish waits for its confirm as long as the broker has an alarm, and that is no work."""
    moments = iter([0.0, 600.0])
    stage.release._steady = lambda: next(moments, 600.0)
    await stage.release.round()
    stage.release._steady = time.monotonic
    stage.release.expect()
    assert stage.release.pause == release.LONGEST_REST


async def test_a_clock_that_was_set_back_makes_no_haste(stage: Stage) -> None:
    stage.release._moved = time.monotonic() - 3600
    stage.now[0] -= 3600
    assert stage.release.pause == release.LATEST


async def test_with_the_database_away_all_is_left_and_goes_on_afterwards(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.becomes("m1", Standing.ENABLED)
    names = await burst(stage, 30)
    monkeypatch.setattr(keeping, "ROUND", 0.05)
    refused, asked = asyncio.Event(), 0
    with monkeypatch.context() as away:

        async def down(*_: Any, **__: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 3:
                refused.set()
            raise DatabaseUnavailable("not now")

        away.setattr(holding, "take_in_hand", down)
        async with kept(stage):
            async with asyncio.timeout(10):
                await refused.wait()
    assert (stage.release.released, await holding.count(stage.database)) == (0, 30)
    tier = FakeTier(stage)
    async with kept(stage):
        await tier.take(30)
    assert [each.id for each in tier.came] == names
