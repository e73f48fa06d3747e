"""Facts go out by group commit: what gathered while the last message was in flight travels in the next one."""

from __future__ import annotations

import asyncio

from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology, Way
from notifier.domain import fact
from notifier.domain.fact import Fact
from notifier.domain.wire import Message

#: Facts in one message. With payloads of 256 KiB each a message stays within tens of MiB.
_MOST = 200


class Recorder:
    """Writes facts to the ledger queue. A recorded fact is confirmed by the broker."""

    def __init__(self, publisher: Publisher, topology: Topology) -> None:
        self._publisher = publisher
        self._way = Way("", topology.ledger)
        self._gathered: list[tuple[tuple[Fact, ...], asyncio.Future[None]]] = []
        self._commits: asyncio.Task[None] | None = None

    async def record(self, *facts: Fact) -> None:
        """Return once the broker confirmed all of them. Repeats until then."""
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gathered.append((facts, confirmed))
        if self._commits is None or self._commits.done():
            self._commits = asyncio.create_task(self._commit_all(), name="facts")
        await confirmed

    async def close(self) -> None:
        """Stop; records in flight are cancelled. Twice is fine."""
        if self._commits is not None:
            self._commits.cancel()
            await asyncio.gather(self._commits, return_exceptions=True)

    async def _commit_all(self) -> None:
        while self._gathered:
            batch, self._gathered = self._gathered[:_MOST], self._gathered[_MOST:]
            try:
                await self._publisher.insist_by(self._way, self._message(batch))
            except BaseException:
                for _, confirmed in batch:
                    confirmed.cancel()
                raise
            for _, confirmed in batch:
                if not confirmed.done():
                    confirmed.set_result(None)

    @staticmethod
    def _message(batch: list[tuple[tuple[Fact, ...], asyncio.Future[None]]]) -> Message:
        return Message(
            body=fact.encode(each for facts, _ in batch for each in facts),
            headers={"v": fact.VERSION},
            content_type="application/json",
            message_id=fresh_message_id(),
        )
