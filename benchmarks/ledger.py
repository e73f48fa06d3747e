"""How fast a real agent takes facts from the broker into SQLite. Explained in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import load, proc
from benchmarks.broker import Broker
from benchmarks.errors import BenchmarkFailed
from benchmarks.ledger_figures import LedgerFigures
from benchmarks.load import Item
from benchmarks.machine import Others
from benchmarks.receiver import Receiver
from benchmarks.run import participants
from benchmarks.service import Service, open_service
from benchmarks.sides import Notifier
from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology, Way
from notifier.domain import fact
from notifier.domain.decision import Complete, NextTier
from notifier.domain.fact import Fact
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

#: Notifications whose facts are stored, and facts in one message, as tier processes under load send them.
NOTIFICATIONS, TOGETHER = 20_000, 4
#: Every so many is acknowledged only at the second attempt.
REFUSED = 5
#: Facts that are stored before the clock starts: until then the service still starts.
RUN_UP = 5000
_START_PATIENCE, _PATIENCE = 10.0, 120.0
_SENT = (("content-type", "application/json"), ("webhook-id", "benchmark"), ("notifier-attempt", "1"))
_NO = Outcome(False, status=500, error=ErrorClass.STATUS, detail="HTTP 500", answer=b"no", sent_headers=_SENT)
_YES = Outcome(True, status=200, address="127.0.0.1:80", answer=b"ok", duration=0.004, sent_headers=_SENT)


@dataclass(frozen=True)
class Storing(Notifier):
    """A service with its agent and nothing to deliver; everything of it lies in one directory."""

    @property
    def environment(self) -> dict[str, str]:
        """Its database is SQLite's file in there."""
        return {**super().environment, "NOTIFIER_STATE_DIR": self.runtime}

    def work(self) -> list[str]:
        """Without the HTTP API."""
        return [sys.executable, "-m", "notifier", "run", "--no-api"]


class LedgerRun:
    """One measurement. name: part of every id; directory: to be made."""

    def __init__(self, name: str, broker: Broker, receiver: Receiver, directory: Path) -> None:
        self._name = name
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._file = directory / "state" / "ledger.db"

    async def measure(self) -> LedgerFigures:
        """Fill the queue, start the service, wait until all is stored. Raises BenchmarkFailed if it is not."""
        self._directory.mkdir()
        (self._directory / "state").mkdir(mode=0o700)
        side = Storing(self._broker.url, f"bench-{self._name}", runtime=str(self._directory / "state"))
        others = Others(participants(self._broker, self._receiver))
        items = load.items(f"{self._name}-f", NOTIFICATIONS, self._receiver.url)
        told = [one for item in items for one in facts_of(item, int(time.time() * 1000))]
        try:
            await self._fill(side, told)
            async with open_service(side, self._directory) as service:
                counted, seconds = await self._stored(service, len(told))
                [agent] = [slot["pid"] for slot in await service.slots() if slot["slot"] == "agent"]
                cpu_s = await proc.cpu_seconds_at_rest([agent])
            await asyncio.to_thread(self._check, told)
        finally:
            await self._broker.forget(side.namespace, [Tier.parse(side.ladder)])
        return LedgerFigures(
            facts=len(told),
            counted=counted,
            seconds=seconds,
            cpu_s=cpu_s,
            bytes_each=self._file.stat().st_size / len(told),
            others_share=others.share,
        )

    async def _fill(self, side: Storing, told: list[Fact]) -> None:
        topology = Topology(side.namespace, (Tier.parse(side.ladder),))
        async with Publisher([self._broker.url], topology, "bench facts") as publisher:
            await publisher.start(_START_PATIENCE)
            way = Way("", topology.ledger)

            async def publish(together: list[Fact]) -> None:
                body = fact.encode(together)
                await publisher.publish_by(way, Message(body, {}, "application/json", fresh_message_id()))

            parts = [told[first : first + TOGETHER] for first in range(0, len(told), TOGETHER)]
            for first in range(0, len(parts), 500):
                await asyncio.gather(*(publish(part) for part in parts[first : first + 500]))

    async def _stored(self, service: Service, facts: int) -> tuple[float, float]:
        """How many facts were stored in how many seconds, after the run-up. The file is looked at every 20 ms."""
        deadline = time.monotonic() + _PATIENCE
        began: tuple[float, float] | None = None
        while (stored := await asyncio.to_thread(self._stored_now)) < facts:
            now = time.monotonic()
            if stored >= RUN_UP and began is None:
                began = now, stored
            service.require_alive()
            if now > deadline:
                raise BenchmarkFailed(f"ledger: {stored:,.0f} of {facts:,} facts were stored in {_PATIENCE:.0f} s")
            await asyncio.sleep(0.02)
        if began is None:
            raise BenchmarkFailed(
                "ledger: all was stored before the first look: there are too few facts to measure with"
            )
        return facts - began[1], time.monotonic() - began[0]

    def _stored_now(self) -> float:
        """Attempts are numbered as they come in, so counting is one look; the others come evenly between them."""
        try:
            with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
                (attempts,) = connection.execute("SELECT max(seq) FROM attempts").fetchone()
        except sqlite3.OperationalError:  # not made yet
            return 0.0
        return float((attempts or 0) * _FACTS / _ATTEMPTS)

    def _check(self, told: list[Fact]) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            [found] = connection.execute(
                "SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM events), "
                "(SELECT count(*) FROM notifications WHERE status = 'completed' AND payload IS NOT NULL)"
            )
        if found != (len(told), NOTIFICATIONS):
            raise BenchmarkFailed(f"ledger: of {len(told):,} facts and {NOTIFICATIONS:,} notifications it has {found}")


def facts_of(item: Item, now_ms: int) -> Iterator[Fact]:
    """What is told of a notification that is acknowledged, every so often at the second attempt only."""
    tier, ladder = Tier(1), Ladder.parse("1s,3s")
    one = Notification(
        item.id, item.merchant, item.payload, url=item.url, ladder=ladder, enqueued_at=now_ms, due_at=now_ms + 1000
    )
    yield fact.accepted(one, tier, now_ms)
    if int(item.id.rpartition("-")[2]) % REFUSED == 0:
        next_tier = NextTier(Tier(3), 1)
        yield fact.attempted(one, tier, _NO, next_tier, started_ms=now_ms + 1000, now_ms=now_ms + 1005)
        one = replace(one, step=1, attempt=2, due_at=now_ms + 4005)
    yield fact.attempted(one, tier, _YES, Complete(), started_ms=now_ms + 4006, now_ms=now_ms + 4010)
    ended = fact.concluded(one, tier, Complete(), now_ms + 4010)
    assert ended is not None
    yield ended


#: Of as many notifications as there are from one that is refused to the next.
_FACTS, _ATTEMPTS = 3 * REFUSED + 1, REFUSED + 1
