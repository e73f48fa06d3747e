"""What the tests of the control line need beside a running service: an operator, load, and a strict receiver."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.settings import load
from notifier.simulator.server import Simulator
from notifier.supervision.operator import Operator


@contextlib.asynccontextmanager
async def operator_of(variables: Mapping[str, str]) -> AsyncIterator[Operator]:
    """An operator of the service with this environment."""
    operator = await Operator.connect(Path(variables["NOTIFIER_RUNTIME_DIR"]))
    try:
        yield operator
    finally:
        await operator.close()


async def slot_of(operator: Operator, name: str) -> dict[str, Any]:
    """How the master sees a slot now."""
    status = await operator.ask("status")
    return next(slot for slot in status["slots"] if slot["slot"] == name)


async def until_slot(operator: Operator, name: str, timeout: float = 30, **wanted: Any) -> dict[str, Any]:
    """Wait until a slot looks so. Asked again and again: what comes by heartbeat is no event of the master."""
    async with asyncio.timeout(timeout):
        while True:
            slot = await slot_of(operator, name)
            if all(slot[field] == value for field, value in wanted.items()):
                return slot
            await asyncio.sleep(0.05)


async def until_keys(operator: Operator, prefix: str, count: int, timeout: float = 30) -> list[dict[str, Any]]:
    """Wait until so many keys of the desired state begin so; these entries."""
    async with asyncio.timeout(timeout):
        while True:
            entries = [each for each in (await operator.ask("state"))["entries"] if each["key"].startswith(prefix)]
            if len(entries) == count:
                return entries
            await asyncio.sleep(0.02)


async def until_restarting(operator: Operator, name: str, epoch: int, timeout: float = 30) -> None:
    """Wait until the process of this epoch drains, or is over already: with nothing in hand a drain is a blink."""
    async with asyncio.timeout(timeout):
        while True:
            slot = await slot_of(operator, name)
            if slot["epoch"] != epoch or slot["state"] != "ready":
                return
            await asyncio.sleep(0.01)


class Producer:
    """Hands in notifications, confirmed, and remembers their ids."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._settings = load({}, environment=variables)
        topology = Topology(self._settings.namespace, self._settings.tiers)
        self._publisher = Publisher(self._settings.amqp_urls, topology)
        self._recorder = Recorder(self._publisher, topology)
        self._entrance = Entrance(topology, self._publisher, self._recorder)
        self.accepted: list[str] = []

    async def __aenter__(self) -> Producer:
        await self._publisher.start(10)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._entrance.flush()
        await self._recorder.close()
        await self._publisher.close()

    async def send(self, merchants: Sequence[str], url: str, count: int, ladder: str | None = None) -> list[str]:
        """So many notifications, to the merchants in turn; each to the path `/MERCHANT`."""
        composed = [
            compose(self._settings, merchant=merchant, payload=b"{}", url=f"{url}/{merchant}", ladder=ladder)
            for merchant in (merchants[number % len(merchants)] for number in range(count))
        ]
        sent = await asyncio.gather(*(self._entrance.accept(each) for each in composed))
        self.accepted += [each.id for each in sent]
        return [each.id for each in sent]

    async def send_without_url(self, merchant: str, count: int) -> list[str]:
        """So many notifications that go where the merchant is registered."""
        composed = [compose(self._settings, merchant=merchant, payload=b"{}") for _ in range(count)]
        sent = await asyncio.gather(*(self._entrance.accept(each) for each in composed))
        self.accepted += [each.id for each in sent]
        return [each.id for each in sent]

    @contextlib.asynccontextmanager
    async def load(
        self, merchants: Sequence[str], url: str, per_second: int, ladders: Sequence[str | None] = (None,)
    ) -> AsyncIterator[None]:
        """A steady stream for the length of the block; each tenth of a second's climbs the next of the ladders."""

        async def stream() -> None:
            for ladder in itertools.cycle(ladders):
                await asyncio.gather(asyncio.sleep(0.1), self.send(merchants, url, max(1, per_second // 10), ladder))

        streaming = asyncio.create_task(stream())
        try:
            yield
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)


async def handled(receiver: Simulator) -> int:
    """How many requests had come, once the receiver has worked on everything that lay in its sockets until now.

    A request of ours on a connection of its own: it is accepted and read in later turns of the receiver's loop than
    what was there to be read before.
    """
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(f"{receiver.url}/barrier", headers={"Connection": "close"}) as answer:
                await answer.read()
    return len(receiver.received)
