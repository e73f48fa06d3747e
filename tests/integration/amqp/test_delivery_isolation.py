"""One merchant never harms another: caps, room and breakers in a delivery room on a real broker."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from queues import Bench
from room import Scripted, Stage, at_work

from notifier.broker.topology import Topology
from notifier.delivery.breaker import Breakers, State
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier
from notifier.sections import Breaker, Isolation

AT_ONCE = Tier(0)
REFUSED = Outcome(False, status=500, error=ErrorClass.STATUS, detail="500")


class Merchants(Scripted):
    """Merchants whose names begin with `hang` do not answer before `gate`; the others do at once.

    most: of each merchant's callbacks that ran at the same time. at: when each began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()
        self.most: Counter[str] = Counter()
        self.at: list[float] = []
        self._running: Counter[str] = Counter()

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        """Acknowledged, sooner or later."""
        name = merchant.id
        self.at.append(asyncio.get_running_loop().time())
        self._running[name] += 1
        self.most[name] = max(self.most[name], self._running[name])
        async with self._called:
            self.calls.append(notification)
            self._called.notify_all()
        try:
            if name.startswith("hang"):
                await self.gate.wait()
        finally:
            self._running[name] -= 1
        return Outcome.ok("200", status=200)

    def told(self, merchant: str) -> list[str]:
        """The ids of what it was told, in order."""
        return [call.id for call in self.calls if call.merchant == merchant]


class Hanging(Scripted):
    """Does not answer before it is told to fail, one callback each time."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = asyncio.Semaphore(0)

    def fail(self) -> None:
        """One of them is given up."""
        self._turns.release()

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        """Not acknowledged."""
        async with self._called:
            self.calls.append(notification)
            self._called.notify_all()
        await self._turns.acquire()
        return REFUSED


async def enqueue(bench: Bench, topology: Topology, merchant: str, count: int, **headers: Any) -> list[str]:
    ids = [f"{merchant}-{number}" for number in range(count)]
    for notification in ids:
        await bench.publish(
            topology.work,
            AT_ONCE.name,
            b'{"paid":true}',
            {"merchant": merchant, "notification": notification, **headers},
            message_id=f"p-{notification}-{headers.get('run', 0)}",
        )
    return ids


async def held(bench: Bench, topology: Topology, count: int) -> list[Mapping[str, Any]]:
    """So many facts, which all have to say that something is held."""
    facts = await bench.facts(topology.ledger, count)
    assert {fact["kind"] for fact in facts} == {"held"}
    return facts


async def drained(stage: Stage, bench: Bench) -> None:
    await stage.drained()
    await stage.consumer.close()
    assert await bench.left(stage.queue) == 0


async def test_a_merchant_is_never_called_more_often_at_once_than_its_bound(broker, topology, bench: Bench) -> None:
    callback = Merchants()
    merchants = [Merchant("hang-own", concurrency=2), Merchant("hang-default")]
    async with at_work(
        broker.url, topology, callback, merchants=merchants, isolation=Isolation(concurrency=3)
    ) as stage:
        await enqueue(bench, topology, "hang-own", 5)
        await enqueue(bench, topology, "hang-default", 5)
        await stage.delivered(10)
        callback.gate.set()
        await callback.called(10)
        await drained(stage, bench)
    assert callback.most == {"hang-own": 2, "hang-default": 3}
    assert callback.told("hang-own") == [f"hang-own-{number}" for number in range(5)], "in order"


async def test_a_merchant_that_hangs_leaves_room_for_the_others_and_loses_nothing(
    broker, topology, bench: Bench
) -> None:
    callback, overflowed = Merchants(), []
    async with at_work(
        broker.url, topology, callback, prefetch=20, isolation=Isolation(concurrency=20), overflowed=overflowed.append
    ) as stage:
        ids = await enqueue(bench, topology, "hang", 60)
        await enqueue(bench, topology, "quick", 10)
        async with asyncio.timeout(15):
            while len(callback.told("quick")) < 10:
                await callback.called(len(callback.calls) + 1)
        running = callback.told("hang")
        told = await bench.facts(topology.ledger, 60 - len(running) + 2 * 10)
        facts = [fact for fact in told if fact["kind"] == "held"]
        callback.gate.set()
        await drained(stage, bench)
    assert overflowed == ["hang"]
    assert 1 <= len(running) <= 20
    assert {fact["reason"] for fact in facts} == {"no-room"}
    assert sorted([*running, *(fact["notification"] for fact in facts)]) == sorted(ids)
    assert running == ids[: len(running)], "those that came first"
    assert base64.b64decode(facts[0]["payload"]) == b'{"paid":true}'


async def test_what_overflowed_stays_in_order_until_its_backlog_is_gone(broker, topology, bench: Bench) -> None:
    callback = Merchants()
    async with at_work(broker.url, topology, callback, isolation=Isolation()) as stage:
        stage.room.turns.overflows("m")
        await enqueue(bench, topology, "m", 2)
        (first, second) = await held(bench, topology, 2)
        await enqueue(bench, topology, "m", 2, run=1, released=1_700_000_000_000)
        await callback.called(2)
        stage.room.turns.drained("m")
        await enqueue(bench, topology, "m", 1, run=2)
        await callback.called(3)
        await drained(stage, bench)
    assert (first["reason"], second["run"]) == ("no-room", 0)
    assert [(call.id, call.run) for call in callback.calls] == [("m-0", 1), ("m-1", 1), ("m-0", 2)]


async def test_a_merchant_that_is_quick_again_is_called_at_once_while_its_overflow_goes_on(
    broker, topology, bench: Bench
) -> None:
    """Nobody says here that what was held is gone: that may take for ever where more comes than is released."""
    callback = Merchants()
    async with at_work(broker.url, topology, callback, isolation=Isolation()) as stage:
        stage.room.turns.overflows("m")
        await enqueue(bench, topology, "m", 2)
        await held(bench, topology, 2)
        await enqueue(bench, topology, "m", 1, run=1, released=1_700_000_000_000)
        await bench.facts(topology.ledger, 2)
        await enqueue(bench, topology, "m", 3, run=2)
        await callback.called(4)
        await drained(stage, bench)
        assert stage.room.turns.overflowing == ["m"]
    assert [(call.id, call.run) for call in callback.calls] == [("m-0", 1), ("m-0", 2), ("m-1", 2), ("m-2", 2)]


async def test_the_next_tier_gets_no_mark_of_an_earlier_release(broker, topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        await enqueue(bench, topology, "m", 1, run=1, released=1_700_000_000_000)
        await stage.settled()
        (message,) = await bench.take(topology.wait_queue(Tier(5)))
    assert "released" not in message.headers


async def test_a_merchant_is_not_cut_off_for_what_is_missing_here(broker, topology, bench: Bench) -> None:
    breakers = Breakers(Breaker(attempts=3, pause=30), 10, lambda merchant, value: None)
    ours = Outcome(acknowledged=False, error=ErrorClass.CONNECT, detail="no file descriptor left", ours=True)
    async with at_work(broker.url, topology, Scripted(ours), breakers=breakers) as stage:
        await enqueue(bench, topology, "m", 6)
        await stage.settled(6)
        assert breakers.open == {}
        assert breakers.counted("m") == (0, 0)


async def test_a_merchant_that_hangs_is_not_called_again_and_again_while_its_first_round_fails(
    broker, topology, bench: Bench
) -> None:
    """After six of ten have failed the four that still run are as many as it takes to cut it off."""
    breakers = Breakers(Breaker(attempts=10, pause=30), 10, lambda merchant, value: None)
    callback = Hanging()
    async with at_work(broker.url, topology, callback, breakers=breakers, isolation=Isolation(concurrency=10)) as stage:
        await enqueue(bench, topology, "m", 30)
        await callback.called(10)
        for number in range(1, 10):
            callback.fail()
            async with asyncio.timeout(10):
                while breakers.counted("m") != (number, number):  # noqa: ASYNC110  it tells only when it opens
                    await asyncio.sleep(0.01)
            assert len(callback.calls) == 10
        callback.fail()
        await drained(stage, bench)
    assert len(callback.calls) == 10
    assert breakers.open == {"m": State.OPEN}


async def test_a_breaker_opens_holds_and_closes_with_a_probe_new_ones_and_others_in_turn(
    broker, topology, bench: Bench
) -> None:
    now, changes = [1_700_000_000.0], []
    breakers = Breakers(
        Breaker(attempts=3, pause=30),
        10,
        lambda merchant, value: changes.append(value and value["state"]),
        clock=lambda: now[0],
    )
    callback = Scripted(REFUSED, REFUSED, REFUSED, REFUSED, Outcome.ok())
    async with at_work(broker.url, topology, callback, breakers=breakers) as stage:
        await enqueue(bench, topology, "m", 3)
        await stage.settled(3)
        assert [fact["kind"] for fact in await bench.facts(topology.ledger, 3)] == ["attempted"] * 3
        await enqueue(bench, topology, "m", 2)
        facts = await held(bench, topology, 2)
        assert len(callback.calls) == 3, "nobody was called"
        now[0] += 30
        await enqueue(bench, topology, "m", 1, run=1, released=1_700_000_000_000)
        (waited,) = await held(bench, topology, 1)
        await enqueue(bench, topology, "m", 1, run=2)
        await stage.settled(4)
        assert [fact["kind"] for fact in await bench.facts(topology.ledger, 1)] == ["attempted"]
        callback.gate.clear()
        await enqueue(bench, topology, "m", 1, run=3)
        (new,) = await held(bench, topology, 1)
        await enqueue(bench, topology, "m", 1, run=4, released=1_700_000_000_000)
        await callback.called(5)
        await enqueue(bench, topology, "m", 1, run=5)
        (beside,) = await held(bench, topology, 1)
        callback.gate.set()
        await stage.settled(5)
        await enqueue(bench, topology, "m", 1, run=6)
        await stage.settled(6)
        await drained(stage, bench)
    assert changes == ["open", "half-open", "open", "half-open", None]
    assert {fact["reason"] for fact in (*facts, waited, new, beside)} == {"breaker-open"}
    assert "now a new one goes first" in waited["detail"]
    assert "now one that was held or tried before goes first" in new["detail"]
    assert "one attempt is under way" in beside["detail"]


@pytest.mark.parametrize("bound", ["the tier's", "the merchant's"])
async def test_a_rate_spreads_the_callbacks(broker, topology, bench: Bench, bound: str) -> None:
    callback = Merchants()
    merchants = [Merchant("m", rate=10.0)] if bound == "the merchant's" else []
    async with at_work(broker.url, topology, callback, merchants=merchants) as stage:
        if bound == "the tier's":
            stage.room.turns.pace(10)
        await enqueue(bench, topology, "m", 6)
        sent = asyncio.get_running_loop().time()
        await callback.called(6)
        await drained(stage, bench)
    # the bucket was taken from before the first callback: long before, if the process stood still between
    assert callback.at[5] - min(callback.at[0], sent + 0.05) >= 0.4, (
        "six at ten a second take half a second from the first on"
    )
