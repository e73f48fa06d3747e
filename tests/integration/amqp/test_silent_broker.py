"""Requests to a broker that goes silent: however often a client asks again, little is on the way, and none is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from proxy import Proxy
from publishing import publishing
from queues import Bench

from notifier.api import accepting
from notifier.api.accepting import Batch
from notifier.api.activity import Activity
from notifier.api.given_up import GivenUp
from notifier.api.parts import Parts
from notifier.api.problems import Problem
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance
from notifier.delivery.facts import Recorder
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.tier import Tier

NOW = Tier(0)
ROUNDS = 20


@pytest.fixture
async def proxy(broker) -> AsyncIterator[Proxy]:
    async with Proxy(broker.url) as proxy:
        yield proxy


@pytest.fixture
async def parts(proxy: Proxy, topology: Topology, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parts]:
    """What accepting works with, on a connection through the proxy."""
    monkeypatch.setattr(accepting, "SILENCE", 0.2)
    async with publishing(proxy.url, topology) as publisher:
        recorder = Recorder(publisher, topology)
        made = SimpleNamespace(
            publisher=publisher,
            entrance=Entrance(topology, publisher, recorder),
            closing=asyncio.Event(),
            activity=Activity(),
            registry={},
            given_up=GivenUp(),
        )
        yield cast(Parts, made)
        await recorder.close()


def stated(notification: str) -> Notification:
    return Notification(
        id=notification, merchant="shop-7", payload=b"{}" * 2_000, url="http://127.0.0.1:9/", ladder=Ladder((NOW,))
    )


async def post(parts: Parts, *notifications: str) -> int | str:
    """The status, or what is wrong."""
    try:
        code, _ = await accepting._accepted(parts, Batch([stated(each) for each in notifications], many=True))
    except Problem as problem:
        return f"{problem.status}: {problem.detail}"
    return code


async def ask_again_and_again(parts: Parts, notification: str) -> list[int | str]:
    return [await post(parts, notification) for _ in range(ROUNDS)]


def left(parts: Parts) -> set[asyncio.Task[Any]]:
    return set(itertools.chain(*parts.given_up._left.values()))


async def arrived(bench: Bench, topology: Topology) -> list[str]:
    queue = topology.work_queue(NOW)
    return sorted(str(each.headers["notification"]) for each in await bench.take_raw(queue, await bench.ready(queue)))


async def test_who_asks_again_and_again_leaves_one_copy_and_is_accepted_when_the_broker_confirms_again(
    proxy: Proxy, parts: Parts, topology: Topology, bench: Bench
) -> None:
    asked = [f"ntf-{number}" for number in range(10)]
    async with asyncio.timeout(20):
        assert await post(parts, "before") == 202
        proxy.upward.clear()
        clients = await asyncio.gather(*(ask_again_and_again(parts, each) for each in asked))
        for answers in clients:
            assert "did not confirm in time" in str(answers[0])
            assert all(
                str(each).startswith("503: RabbitMQ does not confirm what goes to tier 0s now") for each in answers[1:]
            )
        assert len(parts.given_up) == len(asked)
        assert len(parts.publisher._unconfirmed) <= len(asked) + 1, "and what tells the ledger"
        proxy.upward.set()
        await asyncio.wait(left(parts))
        assert await asyncio.gather(*(post(parts, each) for each in asked)) == [202] * len(asked)
    assert await arrived(bench, topology) == sorted(["before", *asked, *asked]), "once given up, once accepted"


async def test_what_was_given_up_ends_with_its_connection_and_is_not_repeated(
    proxy: Proxy, parts: Parts, topology: Topology, bench: Bench
) -> None:
    async with asyncio.timeout(20):
        proxy.upward.clear()
        await post(parts, "given-up")
        going = left(parts)
        assert len(going) == 1
        proxy.thaw_for_new_connections()
        proxy.cut()
        await asyncio.wait(going)
        assert len(parts.given_up) == 0
        assert await post(parts, "after") == 202
    assert await arrived(bench, topology) == ["after"]


async def test_what_others_still_wait_for_is_published_on_the_next_connection(
    proxy: Proxy, parts: Parts, topology: Topology, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(20):
        proxy.upward.clear()
        await post(parts, "given-up")
        monkeypatch.setattr(accepting, "SILENCE", 15.0)
        parts.given_up._tried[NOW] -= 60  # it is the one more that is let through
        waiting = asyncio.create_task(post(parts, "waiting"))
        await proxy.asked(4_000)
        proxy.thaw_for_new_connections()
        proxy.cut()
        assert await waiting == 202
    assert await arrived(bench, topology) == ["waiting"]


async def test_a_request_whose_end_is_cancelled_is_counted_too(proxy: Proxy, parts: Parts) -> None:
    async with asyncio.timeout(20):
        proxy.upward.clear()
        accepted = asyncio.create_task(post(parts, "interrupted"))
        await proxy.asked(4_000)
        accepted.cancel()
        await asyncio.wait([accepted])
        assert len(parts.given_up) == 1
        proxy.upward.set()
        await asyncio.wait(left(parts))
        assert len(parts.given_up) == 0
