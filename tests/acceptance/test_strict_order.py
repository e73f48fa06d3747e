"""Strict order where processes die: one callback at a time, in the order of the due moments, for all but what they died
with. Where a partition goes over in peace is shown in test_partitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import pytest
from aiohttp import web

from notifier.broker.cleanup import delete_namespace
from tests.acceptance.control import Producer, operator_of, until_slot
from tests.acceptance.service import RunningService, environment, running
from tests.acceptance.test_partitions import machine
from tests.conftest import TIERS
from tests.serving import served

MERCHANTS = [f"shop-{number}" for number in range(12)]
#: The tiers by the number of the attempt: each notification climbs once.
TIER = {1: "1s", 2: "2s"}
#: Seconds before a death: what was called longer ago had been settled.
SETTLED = 1.0
#: Seconds after a death in which the receiver may still begin what the dead process had sent.
LAG = 0.5


@pytest.fixture
async def namespace(broker: Any, namespace: str) -> AsyncIterator[str]:
    """One that may have two partitions."""
    yield namespace
    await delete_namespace(broker.url, namespace, TIERS, partitions=2)


@dataclass(frozen=True, slots=True)
class Call:
    """One callback as the merchant saw it. began, ended: seconds, steady. lost: its caller was gone before the end."""

    notification: str
    merchant: str
    attempt: int
    began: float
    ended: float = 0.0
    lost: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.notification, self.attempt


@dataclass(frozen=True, slots=True)
class Death:
    """Of a process that served a tier of these merchants. at: seconds, steady."""

    tier: str
    merchants: frozenset[str]
    at: float

    def of(self, call: Call) -> bool:
        """Whether this is the tier and the partition."""
        return call.merchant in self.merchants and TIER[call.attempt] == self.tier

    def had_under_way(self, call: Call) -> bool:
        """Perhaps: its settling counts as well, and cannot be seen."""
        return self.of(call) and self.at - SETTLED <= call.began <= self.at + LAG


class Receiver:
    """Merchants who refuse each first attempt, and take a while. calls: those that are over. now: the others."""

    def __init__(self, takes: float) -> None:
        self.takes = takes
        self.calls: list[Call] = []
        self.now: set[Call] = set()
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._served = served(self._answer, cancelled=True)
        self.url = await self._served.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._served.__aexit__(None, None, None)

    async def until(self, true: Callable[[], object], what: str, timeout: float = 60) -> None:
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(true)
        except TimeoutError:
            raise AssertionError(f"waited {timeout:g} s for {what}; {len(self.calls)} calls came") from None

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        name, attempt = request.headers["webhook-id"], int(request.headers["notifier-attempt"])
        call = Call(name, request.path.removeprefix("/"), attempt, time.monotonic())
        self.now.add(call)
        await self._tell()
        lost = True
        try:
            await asyncio.sleep(self.takes)  # that is how slow they are
            lost = False
        finally:
            self.now.discard(call)
            self.calls.append(replace(call, ended=time.monotonic(), lost=lost))
        await self._tell()
        return web.Response(status=500 if attempt == 1 else 200)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@contextlib.asynccontextmanager
async def flowing(producer: Producer, url: str) -> AsyncIterator[None]:
    """Three at once to each merchant, again and again for the length of the block, each handed in after the other."""
    over = asyncio.Event()

    async def three() -> None:
        for _ in range(3):
            await producer.send(MERCHANTS, url, len(MERCHANTS))

    async def flow() -> None:
        while not over.is_set():
            await asyncio.gather(asyncio.sleep(0.9), three())

    task = asyncio.create_task(flow())
    try:
        yield
    finally:
        over.set()
        await task


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("machines", [1, 2])
async def test_after_deaths_under_load_the_order_holds_but_for_what_they_had_under_way(
    broker: Any, namespace: str, machines: int
) -> None:
    """On one machine the next process goes on, with a careful start; of two, the other one takes over at once."""
    first = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_PARTITIONS="2", NOTIFIER_STRICT_ORDER="true",
        NOTIFIER_BREAKER__ENABLED="false",
    )  # fmt: skip
    environments = [first, machine(first, "second")][:machines]
    deaths: list[Death] = []
    async with (
        Receiver(0.05) as receiver,
        contextlib.AsyncExitStack() as stack,
    ):
        services = [await stack.enter_async_context(running(variables)) for variables in environments]
        async with Producer(first) as producer:
            async with flowing(producer, receiver.url):
                served = await partitions(services[0])
                for partition, tier in [(partition, tier) for tier in TIER.values() for partition in served] * 2:
                    slot = f"tier:{tier}.{partition}"
                    serving = max(services, key=lambda service: last_attempt(service, slot))
                    deaths.append(await killed(serving, slot, Death(tier, served[partition], 0.0), receiver))
                    async with operator_of(environments[services.index(serving)]) as operator:
                        await until_slot(operator, slot, timeout=60, state="ready")
            wanted = {(name, attempt) for name in producer.accepted for attempt in TIER}
            await receiver.until(
                lambda: {call.key for call in receiver.calls if not call.lost} >= wanted, "all attempts", timeout=240
            )
        for service in services:
            assert await service.stop() == 0
    calls = sorted(receiver.calls, key=lambda call: call.began)
    events = [event for service in services for event in service.events]
    assert not [event for event in events if event["event"] in ("held", "poisoned", "failed")]
    assert {call.key for call in calls} == wanted, "nothing else was called"
    touched = under_way(calls, deaths)
    doubled = {name for (name, _), times in Counter(call.key for call in calls).items() if times > 1}
    assert doubled, "each process died while it called somebody"
    assert doubled - touched == set(), "only what was under way at a death comes twice"
    assert at_once(calls, deaths) == []
    dues = {(event["notification"], event["attempt"]): event["due"] for event in events if event["event"] == "attempt"}
    assert disorder([call for call in calls if call.notification not in touched], dues) == []
    assert len(touched) < len(producer.accepted) / 2, "there were others to be in order"


async def partitions(service: RunningService) -> dict[str, frozenset[str]]:
    """The merchants of each partition, once all had an attempt in each tier."""
    found: dict[str, set[str]] = {}
    for merchant in MERCHANTS:
        for tier in TIER.values():
            event = await service.event("attempt", merchant=merchant, tier=tier)
            found.setdefault(event["process"].rpartition(".")[2], set()).add(merchant)
    assert sum(map(len, found.values())) == len(MERCHANTS), "each is in one partition"
    return {partition: frozenset(merchants) for partition, merchants in sorted(found.items())}


def last_attempt(service: RunningService, slot: str) -> str:
    """When its process in this slot told of its last attempt, as text that sorts; empty for never."""
    process = slot.replace("tier:", "tier ")
    told = (event for event in service.events if event["event"] == "attempt" and event["process"] == process)
    return max((str(event["ts"]) for event in told), default="")


async def killed(service: RunningService, slot: str, death: Death, receiver: Receiver) -> Death:
    """Kill a process while it calls somebody; return once somebody serves its partition again."""
    await receiver.until(lambda: any(death.of(call) for call in receiver.now), f"a call of {slot}")
    os.kill(service.pid_of(slot), signal.SIGKILL)
    death = replace(death, at=time.monotonic())
    await receiver.until(
        lambda: any(death.of(call) and call.began > death.at + LAG for call in receiver.now), f"calls of {slot} again"
    )
    return death


def under_way(calls: Sequence[Call], deaths: Sequence[Death]) -> set[str]:
    """The notifications that were first called, in some tier, when that tier's process was about to die."""
    first: dict[tuple[str, int], Call] = {}
    for call in calls:
        first.setdefault(call.key, call)
    return {call.notification for call in first.values() if any(death.had_under_way(call) for death in deaths)}


def at_once(calls: Sequence[Call], deaths: Sequence[Death]) -> list[tuple[Call, Call]]:
    """Pairs of callbacks to one merchant, in one tier, of which the second began before the first was over. One whose
    caller dies is over with that, whenever the merchant notices.
    """
    found: list[tuple[Call, Call]] = []
    longest: dict[tuple[str, int], tuple[float, Call]] = {}
    for call in calls:
        lane = call.merchant, call.attempt
        if lane in longest and call.began < longest[lane][0]:
            found.append((longest[lane][1], call))
        ended = call.ended
        for death in deaths:
            if death.had_under_way(call) and (call.lost or call.began <= death.at):
                ended = min(ended, max(call.began, death.at))
        if lane not in longest or ended > longest[lane][0]:
            longest[lane] = ended, call
    return found


def disorder(calls: Sequence[Call], dues: Mapping[tuple[str, int], str]) -> list[tuple[Call, Call]]:
    """Pairs of callbacks to one merchant, in one tier, of which the second was due before the first."""
    found: list[tuple[Call, Call]] = []
    latest: dict[tuple[str, int], Call] = {}
    for call in calls:
        lane = call.merchant, call.attempt
        if lane in latest and dues[call.key] < dues[latest[lane].key]:
            found.append((latest[lane], call))
        else:
            latest[lane] = call
    return found
