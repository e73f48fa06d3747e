"""A whole service, agent and tiers included, that is handed notifications over HTTP. See docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import load, proc
from benchmarks.api_figures import Accepted, ApiFigures
from benchmarks.broker import Broker
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import count
from benchmarks.load import Item
from benchmarks.machine import Others
from benchmarks.receiver import Receiver
from benchmarks.run import participants
from benchmarks.service import Service, open_service
from benchmarks.sides import Notifier
from notifier.domain.ladder import PRESETS

LADDER = "default"
#: Seconds of each way, notifications in one request, and requests at the same time: one way, and the other.
SECONDS = 60.0
BATCH = 100
MANY_AT_ONCE, ONE_AT_ONCE = 4, 16
JSON = {"Content-Type": "application/json"}
#: Notifications whose payloads are made beforehand and sent again and again, each time as others.
PAYLOADS = 5000


@dataclass(frozen=True)
class Whole(Notifier):
    """A service with everything, which lies in one directory."""

    @property
    def environment(self) -> dict[str, str]:
        """On SQLite, on a free port."""
        return {**super().environment, "NOTIFIER_STATE_DIR": self.runtime, "NOTIFIER_API__PORT": "0"}

    def work(self) -> list[str]:
        """`notifier run` as anyone starts it."""
        return [word for word in super().work() if word not in ("--no-agent", "--no-api")]


class ApiRun:
    """One measurement. name: of the namespace; directory: to be made. seconds: of each way."""

    def __init__(
        self, name: str, broker: Broker, receiver: Receiver, directory: Path, seconds: float = SECONDS
    ) -> None:
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._seconds = seconds
        self._side = Whole(broker.url, f"bench-{name}", ladder=LADDER, runtime=str(directory / "run"))
        self._stated = [_stated(item) for item in load.items(name, PAYLOADS, receiver.url)]

    async def measure(self) -> ApiFigures:
        """Everything, in order. Raises BenchmarkFailed unless everything that was accepted arrived exactly once."""
        self._directory.mkdir()
        others = Others(participants(self._broker, self._receiver))
        try:
            async with open_service(self._side, self._directory) as service:
                url = await _url(service)
                many = await self._way(service, f"{url}/v1/notifications", MANY_AT_ONCE, self._batches())
                one = await self._way(service, f"{url}/v1/notifications", ONE_AT_ONCE, self._singles())
                weight = proc.pss_megabytes((await _slot(service, "api"))["pid"])
        finally:
            await self._broker.forget(self._side.namespace, sorted(set(PRESETS[LADDER])))
        return ApiFigures(many, one, weight, others.share)

    async def _way(self, service: Service, url: str, at_once: int, bodies: Iterator[bytes]) -> Accepted:
        """Hand in for a while, then wait until all of it has arrived."""
        before = self._receiver.look()
        ids: list[str] = []
        answer_ms: list[float] = []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:
            began = time.monotonic()

            async def hand_in() -> None:
                while time.monotonic() - began < self._seconds:
                    asked = time.perf_counter()
                    async with session.post(url, data=next(bodies), headers=JSON) as answer:
                        if answer.status != 202:
                            raise BenchmarkFailed(f"the API answered {answer.status}: {(await answer.text())[:500]}")
                        ids.extend(_ids(await answer.json()))
                    answer_ms.append((time.perf_counter() - asked) * 1000)

            await asyncio.gather(*(hand_in() for _ in range(at_once)))
            seconds = time.monotonic() - began
        behind = before + len(ids) - self._receiver.look()
        await self._receiver.until(before + len(ids), service.require_alive)
        drained_s = time.monotonic() - began - seconds
        wrong = count(ids, {}, self._receiver.arrivals[before:]).wrong
        if wrong is not None:
            raise BenchmarkFailed(f"HTTP API: {wrong}")
        return Accepted(seconds, ids, answer_ms, behind, drained_s)

    def _batches(self) -> Iterator[bytes]:
        starts = range(0, PAYLOADS, BATCH)
        return cycle([json.dumps({"notifications": self._stated[at : at + BATCH]}).encode() for at in starts])

    def _singles(self) -> Iterator[bytes]:
        return cycle([json.dumps(stated).encode() for stated in self._stated])


async def _slot(service: Service, name: str) -> Any:
    return next(slot for slot in await service.slots() if slot["slot"] == name)


async def _url(service: Service) -> str:
    """Where the API listens. Its first heartbeat says so, so it is asked for."""
    deadline = time.monotonic() + 10
    while "url" not in (statistics := (await _slot(service, "api"))["statistics"]):
        if time.monotonic() > deadline:
            raise BenchmarkFailed("the API does not say where it listens")
        await asyncio.sleep(0.1)
    return str(statistics["url"])


def _stated(item: Item) -> dict[str, Any]:
    """Without an id: the API gives it."""
    return {"merchant": item.merchant, "url": item.url, "payload": json.loads(item.payload)}


def _ids(answer: Any) -> Sequence[str]:
    if "results" not in answer:
        return [answer["id"]]
    if answer["refused"]:
        raise BenchmarkFailed(f"the API refused {answer['refused']} of {BATCH}")
    return [result["id"] for result in answer["results"]]
