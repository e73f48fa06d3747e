"""The load: a steady stream of confirmed enqueues, each with its moments."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.errors import PublishRefused, Unroutable
from notifier.settings import load as settings_of
from tests.faults import merchants
from tests.faults.verdict import COMPLETED, Sent

#: How the merchants of the load answer, in turn: two thirds of all notifications need one attempt, the others two.
KINDS: Mapping[str, int] = {"prompt": 1, "flaky": 2, "slow": 1}
#: Further kinds, for bursts: one that hangs, and one whose address is not allowed.
HANG, FORBIDDEN = "hang", "forbidden"
_ATTEMPTS: Mapping[str, int] = {**KINDS, HANG: 1, FORBIDDEN: 0}
MERCHANTS = 51
#: Seconds between two small bursts.
_TICK = 0.05
#: Publishes in flight from which on nothing new is handed in: a producer that cannot publish stops as well.
_MOST_PENDING = 1500


@dataclass(frozen=True, slots=True)
class Wanted:
    """A notification that is not of the stream. The rest as in `Sent`."""

    kind: str
    merchant: str
    url: str
    attempts: int = 1
    may_end: frozenset[str] = COMPLETED
    breaks: bool = False


class Load:
    """A producer over AMQP. per_second: notifications. sent: all that were handed in, confirmed or not. refused: how
    many of them the broker refused, so that they were not accepted.
    """

    def __init__(self, variables: Mapping[str, str], url: str, per_second: int) -> None:
        self._settings = settings_of({}, environment=variables)
        self._url = url
        self._forbidden = url.replace("127.0.0.1", merchants.FORBIDDEN)
        self._per_second = per_second
        topology = Topology(self._settings.namespace, self._settings.tiers)
        self._publisher = Publisher(self._settings.amqp_urls, topology, "load")
        self._recorder = Recorder(self._publisher, topology)
        self._entrance = Entrance(topology, self._publisher, self._recorder)
        self._delays = tuple(tier.milliseconds for tier in self._settings.default_ladder)
        self._turn = itertools.cycle(range(MERCHANTS))
        self._serial = itertools.count(1)
        self._run = secrets.token_hex(3)
        self._pending: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.sent: list[Sent] = []
        self.refused = 0

    async def __aenter__(self) -> Load:
        await self._publisher.start(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        await self._recorder.close()
        await self._publisher.close()

    @property
    def unconfirmed(self) -> int:
        """Publishes whose confirm has not come."""
        return len(self._pending)

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """The stream, for the length of the block."""
        streaming = asyncio.create_task(self._stream())
        try:
            yield
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def halted(self) -> AsyncIterator[None]:
        """No stream for the length of the block, and everything before it is confirmed."""
        self._flowing.clear()
        try:
            await self.confirmed()
            yield
        finally:
            self._flowing.set()

    async def burst(self, kinds: Sequence[str], merchant: str | None = None) -> list[Sent]:
        """Hand in one notification for each of these kinds at once; returns them confirmed. merchant: of all."""
        before = len(self.sent)
        handing = [self._hand_in(kind, merchant) for kind in kinds]
        await asyncio.gather(*handing)
        return self.sent[before : before + len(kinds)]

    async def send(self, wanted: Sequence[Wanted]) -> list[Sent]:
        """Hand in these at once; returns them confirmed."""
        before = len(self.sent)
        await asyncio.gather(*(self._hand_in(each.kind, each.merchant, each) for each in wanted))
        return self.sent[before : before + len(wanted)]

    async def confirmed(self) -> None:
        """Wait until every publish was answered."""
        while self._pending:
            await asyncio.wait(self._pending)

    async def told(self) -> None:
        """Wait until the ledger's queue has all `accepted` facts."""
        await self.confirmed()
        await self._entrance.flush()

    async def _stream(self) -> None:
        owed, before = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            await self._flowing.wait()
            now = time.monotonic()
            owed, before = min(owed + (now - before) * self._per_second, self._per_second / 4), now
            for _ in range(int(owed) if len(self._pending) < _MOST_PENDING else 0):
                self._hand_in(list(KINDS)[next(self._turn) % len(KINDS)])
                owed -= 1

    def noted(self, kind: str, merchant: str | None = None, wanted: Wanted | None = None) -> tuple[Sent, str, str]:
        """A notification that somebody is about to hand in, its merchant, and where it goes."""
        serial = next(self._serial)
        sent = Sent(
            f"{self._run}-{serial}",
            kind,
            _ATTEMPTS[kind] if wanted is None else wanted.attempts,
            tuple(tier.milliseconds for tier in self._settings.default_ladder),
        )
        if wanted is not None:
            sent.may_end, sent.breaks = wanted.may_end, wanted.breaks
        self.sent.append(sent)
        merchant = merchant or f"m{serial % MERCHANTS:02}"
        return sent, merchant, f"{self._forbidden if kind == FORBIDDEN else self._url}/{kind}/{merchant}"

    def _hand_in(self, kind: str, merchant: str | None = None, wanted: Wanted | None = None) -> asyncio.Task[None]:
        sent, merchant, url = self.noted(kind, merchant, wanted)
        handing = asyncio.create_task(self._accept(sent, merchant, url if wanted is None else wanted.url))
        self._pending.add(handing)
        handing.add_done_callback(self._pending.discard)
        return handing

    async def _accept(self, sent: Sent, merchant: str, url: str) -> None:
        notification = compose(
            self._settings,
            merchant=merchant,
            payload=json.dumps({"key": sent.id}).encode(),
            url=url,
            notification_id=sent.id,
        )
        sent.began = time.time() * 1000
        try:
            accepted = await self._entrance.accept(notification)
        except (PublishRefused, Unroutable):
            self.refused += 1
        else:
            sent.enqueued_at = accepted.enqueued_at
            sent.confirmed = time.time() * 1000
