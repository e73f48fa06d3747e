"""What had no room, or whose merchant failed, arrives by itself, in order: the whole service with its agent."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, Self

import pytest
from aiohttp import web

from tests.acceptance.control import Producer, operator_of, until_keys
from tests.acceptance.ledger import Ledger
from tests.acceptance.service import environment, running
from tests.serving import served


class SlowMerchant:
    """Answers after a while, and counts. status: what it answers now. most: requests at once, ever. came: the
    notifications in the order in which they came. all_came: so many different ones did, if it was told how many.
    """

    def __init__(self, takes: float, expected: int = 0) -> None:
        self.takes = takes
        self.status = 200
        self.most = 0
        self.came: list[str] = []
        self.all_came = asyncio.Event()
        self._expected = expected
        self._different: set[str] = set()
        self._now = 0

    async def __aenter__(self) -> Self:
        self._served = served(self._answer)
        self.url = await self._served.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._served.__aexit__(None, None, None)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self._now += 1
        self.most = max(self.most, self._now)
        self.came.append(request.headers["webhook-id"])
        self._different.add(self.came[-1])
        if len(self._different) == self._expected:
            self.all_came.set()
        try:
            await asyncio.sleep(self.takes)  # that is how slow it is
        finally:
            self._now -= 1
        return web.Response(status=self.status)


@pytest.mark.long  # integration/amqp/test_agent_windows shows it without a service
async def test_a_burst_to_a_slow_merchant_and_what_waited_for_a_failing_one_arrive_by_themselves(
    broker: Any, namespace: str
) -> None:
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s,1s,1s", NOTIFIER_PREFETCH="40",
        NOTIFIER_ISOLATION__CONCURRENCY="5", NOTIFIER_BREAKER__ATTEMPTS="4", NOTIFIER_BREAKER__PAUSE="2",
    )  # fmt: skip
    ledger = Ledger(variables)
    async with (
        SlowMerchant(0.2) as slow,
        SlowMerchant(0.0) as failing,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        burst = [*await producer.send(["slow"], slow.url, 60), *await producer.send(["slow"], slow.url, 60)]
        failing.status = 500
        early = await producer.send(["fails"], failing.url, 4)
        await service.event("breaker", state="open", merchant="fails")
        late = await producer.send(["fails"], failing.url, 20)
        await service.several(24, "held", reason="breaker-open", merchant="fails")
        opened = await service.several(2, "breaker", timeout=40, state="open", merchant="fails")
        assert len(opened) - 1 <= len(failing.came) - 4 <= len(opened), "single probes, which the agent has released"
        await ledger.until(lambda: set(burst) <= completed(ledger), "the burst", timeout=90)
        await until_keys(operator, "overflow/", 0, timeout=20)

        assert Counter(slow.came) == Counter(burst), "each exactly once"
        assert slow.most == 5
        half = len(set(slow.came[:60]) & set(burst[:60]))
        assert half >= 50, f"roughly in order of time: {half} of the first sixty are among the first sixty that came"
        holds = Counter(
            event["notification"]
            for event in service.events
            if event["event"] == "held" and event["merchant"] == "slow"
        )
        assert len(holds) >= 60, "there was no room for them"
        assert sum(holds.values()) <= 1.2 * len(holds), "once, as a rule"

        failing.status = 200
        await service.event("breaker", timeout=60, state="closed", merchant="fails")
        await ledger.until(lambda: {*early, *late} - completed(ledger) <= exhausted(ledger), "all others", timeout=20)
        assert len(exhausted(ledger)) <= 3, "only probes"
        await until_keys(operator, "breaker/", 0)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("count", [300, 10_000])
async def test_a_burst_arrives_once_each_within_the_cap_roughly_in_order_and_is_held_about_once_each(
    broker: Any, namespace: str, count: int
) -> None:
    """However long the burst is: that it is released again and again must not cost more for each that waits.

    The order is measured by how many places each is away from its own: on average at most a quarter of a prefetch, and
    nobody more than one, however many there are.
    """
    cap, takes, prefetch = 10, 0.1, 200
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_PREFETCH=str(prefetch),
        NOTIFIER_ISOLATION__CONCURRENCY=str(cap),
    )  # fmt: skip
    ledger = Ledger(variables)
    async with (
        SlowMerchant(takes, count) as slow,
        running(variables, "--no-api", whole=True) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        began = time.monotonic()
        for _ in range(0, count, 100):
            await producer.send(["slow"], slow.url, 100)
        burst = producer.accepted
        async with asyncio.timeout(60 + 8 * count * takes / cap):
            await slow.all_came.wait()
        took = time.monotonic() - began
        done = "SELECT count(*) FROM notifications WHERE status = 'completed'"
        await ledger.until(lambda: ledger.count(done) == count, "the ledger to know of all", timeout=120)
        await until_keys(operator, "overflow/", 0, timeout=20)
        assert await service.stop() == 0
    assert Counter(slow.came) == Counter(burst), "each exactly once"
    assert slow.most == cap
    place = {name: number for number, name in enumerate(burst)}
    away = [abs(number - place[name]) for number, name in enumerate(slow.came)]
    holds = Counter(event["notification"] for event in service.events if event["event"] == "held")
    told = (
        f"{count} in {took:.1f} s; away from their places {sum(away) / count:.1f} on average, at most {max(away)}; "
        f"{len(holds)} held {sum(holds.values())} times, one {max(holds.values(), default=0)} times"
    )
    print(told)
    assert sum(away) / count <= prefetch / 4, told
    assert max(away) <= prefetch, told
    assert len(holds) >= count / 4, "there was no room for them"
    assert sum(holds.values()) <= 1.2 * len(holds), told
    assert max(holds.values()) <= 4, told


def completed(ledger: Ledger) -> set[str]:
    return {row["id"] for row in ledger.rows("SELECT id FROM notifications WHERE status = 'completed'")}


def exhausted(ledger: Ledger) -> set[str]:
    return {row["id"] for row in ledger.rows("SELECT id FROM notifications WHERE status = 'exhausted'")}
