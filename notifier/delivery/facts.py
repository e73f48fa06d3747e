"""Facts go out by group commit: what gathered while the last message was in flight, and for a moment longer, travels in
the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology, Way
from notifier.domain import fact
from notifier.domain.fact import Fact
from notifier.domain.wire import Message

#: Bytes of facts in one message: some thousand small ones, or a few that carry large payloads. A producer in full
#: flow has hundreds of publishes between one commit and the next, and RabbitMQ 4 takes no message beyond 16 MiB.
_MOST_BYTES = 1_048_576
#: Seconds from one message to the next, while less than a full one is there: a message costs three processes and a disk
#: as much for one fact as for ten. A fact after a rest goes at once. What waits for its fact was called already.
APART = 0.02


class Recorder:
    """Writes facts to the ledger queue. A recorded fact is confirmed by the broker."""

    def __init__(self, publisher: Publisher, topology: Topology) -> None:
        self._publisher = publisher
        self._way = Way("", topology.ledger)
        self._gathered: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._next = 0.0
        self._commits: asyncio.Task[None] | None = None

    async def record(self, *facts: Fact) -> None:
        """Return once the broker confirmed all of them. Repeats until then.

        Raises MessageTooLarge for what the broker takes in no message.
        """
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        encoded = fact.encode(facts)
        self._gathered.append((encoded, confirmed))
        self._bytes += len(encoded)
        if self._commits is None or self._commits.done():
            self._commits = asyncio.create_task(self._commit_all(), name="facts")
        await confirmed

    async def close(self) -> None:
        """Stop; records in flight are cancelled. Twice is fine."""
        if self._commits is not None:
            self._commits.cancel()
            await asyncio.gather(self._commits, return_exceptions=True)

    async def _commit_all(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._gathered:
                if (pause := self._next - clock()) > 0 and self._bytes < _MOST_BYTES:
                    await asyncio.sleep(pause)
                self._next = clock() + APART
                await self._commit(self._next_batch())
        except BaseException:
            _cancel(self._gathered)
            self._gathered.clear()
            self._bytes = 0
            raise

    async def _commit(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        try:
            await self._publisher.insist_by(self._way, self._message(batch))
        except Exception as error:
            for confirmed in _waiting(batch):
                confirmed.set_exception(error)
        except BaseException:
            _cancel(batch)
            raise
        else:
            for confirmed in _waiting(batch):
                confirmed.set_result(None)

    def _next_batch(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        """At least one; as many as fit."""
        batch = [self._gathered.popleft()]
        size = len(batch[0][0])
        while self._gathered and (size := size + len(self._gathered[0][0])) <= _MOST_BYTES:
            batch.append(self._gathered.popleft())
        self._bytes -= sum(len(facts) for facts, _ in batch)
        return batch

    @staticmethod
    def _message(batch: list[tuple[bytes, asyncio.Future[None]]]) -> Message:
        return Message(
            body=b"[%s]" % b",".join(facts.removeprefix(b"[").removesuffix(b"]") for facts, _ in batch),
            headers={"v": fact.VERSION},
            content_type="application/json",
            message_id=fresh_message_id(),
        )


def _waiting(batch: Iterable[tuple[bytes, asyncio.Future[None]]]) -> list[asyncio.Future[None]]:
    """Whoever has not been cancelled meanwhile."""
    return [confirmed for _, confirmed in batch if not confirmed.done()]


def _cancel(batch: Iterable[tuple[bytes, asyncio.Future[None]]]) -> None:
    for confirmed in _waiting(batch):
        confirmed.cancel()
