"""Facts, from the ledger queue into the database.

    take → gather while the last transaction ran, and a moment → store in one transaction → switch off who is gone → ack

A fact is acknowledged after its transaction, and nothing is ever refused: whatever dies in between, the broker gives
the facts out again, and storing them twice changes nothing. While the database cannot write, nothing is taken and
nothing is in our hands: the facts wait in the broker. A fact that cannot be stored is found by halving its batch and
goes to the poison queue with its reason; the others are stored. Where the reason does not lie in the fact for certain,
it is tried some times more before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from notifier import logs
from notifier.agent.watched import watched
from notifier.broker import poison
from notifier.broker.connection import Waiting
from notifier.broker.consumer import Consumer, Delivery
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology, Way
from notifier.domain.wire import Message
from notifier.errors import DatabaseUnavailable
from notifier.ledger import unavailable
from notifier.ledger.fact_rows import BadFact, read

#: Messages in our hands at once; half of them are being stored while the others gather.
PREFETCH = 1000
#: The same while messages are so large that a thousand of them would fill the memory.
NARROW = 16
#: Bytes in our hands from which on the prefetch is narrowed. What had come is dropped then, and comes again.
MOST_BYTES = 48 * 1024 * 1024
#: Messages and bytes of one transaction.
BATCH, BATCH_BYTES = 500, 8 * 1024 * 1024
#: Seconds from one transaction to the next, while less than a whole batch is there: one costs as much for a single fact
#: as for thirty, and its sync keeps the disk from the broker. The first fact after a rest is stored at once.
APART = 0.1
#: Messages that have to be small, one after the other, before the prefetch is wide again.
CALM = 200
#: Bad facts that are looked at, and sent to poison, in one go.
AT_ONCE = 200
#: Seconds to store what is in hand, once nothing more is taken.
LAST = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
#: Seconds before each further try with a fact whose error may have been another's.
DOUBTS = (0.5, 1.0, 2.0)

StoppedFact = Mapping[str, Any]


class Writer(Protocol):
    """Stores facts: all of them in one transaction, or none and raises."""

    async def write(self, facts: Sequence[Mapping[str, Any]]) -> object:
        """Raises DatabaseUnavailable for "not now", anything else for what cannot be stored."""


class Intake:
    """Consumes the ledger queue from `start` to `close`.

    switch_off: is called with each `stopped` fact whose merchant is to be disabled, again for a fact that comes again;
    raises DatabaseUnavailable where it could not. stored: hears of the facts that are in the ledger now, each time.
    available: called with None when the database took a transaction, with the reason when it could not.
    """

    def __init__(
        self,
        urls: Sequence[str],
        topology: Topology,
        publisher: Publisher,
        writer: Writer,
        switch_off: Callable[[StoppedFact], Awaitable[None]],
        *,
        stored: Callable[[Sequence[Any]], None] = lambda facts: None,
        available: Callable[[str | None], None] = lambda reason: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.facts = 0
        self.poisoned = 0
        self._publisher = publisher
        self._topology = topology
        self._writer = writer
        self._switch_off = switch_off
        self._stored = stored
        self._available = available
        self._clock = clock
        self._consumer = Consumer(urls, topology, topology.ledger, PREFETCH, self._take, "agent facts")
        self._gathered: deque[Delivery] = deque()
        self._last: Delivery | None = None
        self._left: Delivery | None = None
        self._bytes = 0
        self._small = 0
        self._pause = _FIRST_PAUSE
        self._news = asyncio.Event()
        self._enough = asyncio.Event()
        self._next = 0.0
        self._closing = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._broken_off = False
        self._switching: set[asyncio.Task[None]] = set()

    async def start(self, waiting: Waiting | None = None) -> None:
        """Connect and begin to take; see Consumer.start for the argument and errors."""
        self._work = watched("intake", self._store_all)
        await self._consumer.start(waiting=waiting)

    async def close(self) -> None:
        """Store what is in hand, if that is soon done, and stop. What is not acknowledged comes again, to whoever takes
        it then. Twice is fine.
        """
        self._closing.set()
        if self._work is not None and not self._work.done():
            await self._consumer.stop_taking()
            self._news.set()
            self._enough.set()
            await asyncio.wait([self._work], timeout=LAST)
        tasks = [*self._switching, *([self._work] if self._work is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._consumer.close()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker just now."""
        return self._consumer.connected

    def _take(self, delivery: Delivery) -> None:
        if self._left is not None and delivery.beside(self._left):
            return  # under way while its connection is being left: it comes again
        self._last = delivery
        self._gathered.append(delivery)
        self._bytes += len(delivery.message.body)
        self._news.set()
        if self._is_enough:
            self._enough.set()
        if self._bytes > MOST_BYTES and self._consumer.prefetch > NARROW:
            logs.event("intake.narrow", bytes=self._bytes, prefetch=NARROW)
            self._again(NARROW)

    def _again(self, prefetch: int) -> None:
        """Give everything back by leaving the connection, which counts against nobody here, and connect anew."""
        self._gathered.clear()
        self._left = self._last
        self._bytes = self._small = 0
        self._consumer.widen(prefetch)

    async def _store_all(self) -> None:
        if self._broken_off and not self._closing.is_set():  # anywhere: perhaps nothing is taken just now
            self._again(self._consumer.prefetch)
            await self._consumer.take_again()
        self._broken_off = True
        while True:
            await self._news.wait()
            await self._gather()
            batch = self._next_batch()
            if not batch:
                if self._closing.is_set():
                    return
                self._news.clear()
                continue
            try:
                await self._settle(batch)
            except DatabaseUnavailable as error:
                await self._wait_for_the_database(error, batch)
            except Exception as error:  # a fault of ours: the facts come again, and this agent goes on
                logs.event("failed", logging.ERROR, exc_info=error, what="facts could not be taken into the ledger")
                self._again(self._consumer.prefetch)
                await self._rest(_LONGEST_PAUSE)

    @property
    def _is_enough(self) -> bool:
        most = min(BATCH, self._consumer.prefetch)  # no more of them come before these are acknowledged
        return len(self._gathered) >= most or self._bytes >= BATCH_BYTES or self._closing.is_set()

    async def _gather(self) -> None:
        """Until there is a whole batch, or the last transaction began `APART` seconds ago."""
        clock = asyncio.get_running_loop().time
        if self._gathered and (pause := self._next - clock()) > 0 and not self._is_enough:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._enough.wait()
        if self._gathered:
            self._next = clock() + APART

    def _next_batch(self) -> list[Delivery]:
        """What gathered, as far as it fits. What went stale comes again and is not worked twice."""
        batch: list[Delivery] = []
        size = 0
        while self._gathered and len(batch) < BATCH:
            body = len(self._gathered[0].message.body)
            if batch and size + body > BATCH_BYTES:
                break
            delivery = self._gathered.popleft()
            self._bytes -= body
            if not delivery.stale:
                batch.append(delivery)
                size += body
                self._widen_again(body)
        return batch

    def _widen_again(self, body: int) -> None:
        if self._consumer.prefetch == PREFETCH:
            return
        self._small = self._small + 1 if body < MOST_BYTES // (2 * PREFETCH) else 0
        if self._small >= CALM and not self._gathered:
            self._again(PREFETCH)

    async def _settle(self, batch: Sequence[Delivery]) -> None:
        facts: list[Any] = []
        parting: list[tuple[Delivery, list[StoppedFact]]] = []
        for delivery in batch:
            told = await self._read(delivery.message)
            facts += told
            parting.append((delivery, [fact for fact in told if _switches_off(fact)]))
        buried = {id(fact) for fact in await self._store(facts)}
        for delivery, told in parting:
            if stopped := [fact for fact in told if id(fact) not in buried]:
                self._switch_apart(delivery, stopped)
            else:
                await delivery.ack()
        self.facts += len(facts) - len(buried)

    async def _read(self, message: Message) -> list[Any]:
        """The facts of a message; none of one that went to poison as a whole."""
        try:
            told = json.loads(message.body)
        except (ValueError, RecursionError) as error:
            told, why = None, f"it is no JSON: {error}"
        else:
            why = "it is no JSON array of facts"
        if isinstance(told, list):
            return told
        await self._bury(message, why)
        return []

    async def _store(self, facts: Sequence[Any]) -> Sequence[Any]:
        """Store all that can be; what cannot goes to poison. Returns what went there.

        Raises DatabaseUnavailable; then nothing is lost.
        """
        bad = await self._halved(facts)
        if len(bad) == len(facts) > 1 and not any(isinstance(error, BadFact) for _, error in bad):
            raise DatabaseUnavailable(f"the ledger takes no fact at all: {_said(bad[0][1])}")
        bad = await self._doubted(bad)
        self._available(None)
        self._pause = _FIRST_PAUSE
        for first in range(0, len(bad), AT_ONCE):
            piece = bad[first : first + AT_ONCE]
            await asyncio.gather(*(self._bury(_message_of(fact), _said(error)) for fact, error in piece))
        buried = [fact for fact, _ in bad]
        if facts:
            lost = {id(fact) for fact in buried}
            self._stored([fact for fact in facts if id(fact) not in lost] if lost else facts)
        return buried

    async def _doubted(self, bad: list[tuple[Any, Exception]]) -> list[tuple[Any, Exception]]:
        """Try again with those that may be good: in a batch of one, a fault of the moment looks like its own."""
        for pause in DOUBTS:
            doubtful = [fact for fact, error in bad if not _lies_in_the_fact(error)]
            if not doubtful:
                break
            await self._rest(random.uniform(pause / 2, pause))
            bad = [each for each in bad if _lies_in_the_fact(each[1])] + await self._halved(doubtful)
        return bad

    async def _halved(self, facts: Sequence[Any]) -> list[tuple[Any, Exception]]:
        """Store the facts; returns those that cannot be, each with its error."""
        if not facts:
            return []
        try:
            await self._writer.write(facts)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if len(facts) == 1:
                return [(facts[0], error)]
            readable, bad = await _parted(facts) if isinstance(error, BadFact) else (facts, [])
            if bad:
                return [*bad, *await self._halved(readable)]
            middle = len(facts) // 2
            return [*await self._halved(facts[:middle]), *await self._halved(facts[middle:])]
        return []

    async def _bury(self, message: Message, reason: str) -> None:
        self.poisoned += 1
        logs.event("fact.poisoned", logging.ERROR, message_id=message.message_id, why=reason[:500])
        marked = poison.marked_facts(message, reason, int(self._clock() * 1000))
        await self._publisher.insist_by(Way("", self._topology.poison), marked)

    def _switch_apart(self, delivery: Delivery, stopped: Sequence[StoppedFact]) -> None:
        """Processes are told of it and answer, which may take seconds: other facts do not wait for that."""
        task = asyncio.create_task(self._switch_off_then_ack(delivery, stopped))
        self._switching.add(task)
        task.add_done_callback(self._switching.discard)

    async def _switch_off_then_ack(self, delivery: Delivery, stopped: Sequence[StoppedFact]) -> None:
        pause = _FIRST_PAUSE
        while not delivery.stale:
            try:
                for fact in stopped:
                    await self._switch_off(fact)
            except DatabaseUnavailable:
                await asyncio.sleep(random.uniform(pause / 2, pause))
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            except Exception as error:  # the fact itself is stored, and that a merchant is gone will be told again
                logs.event("failed", logging.ERROR, exc_info=error, what="a merchant could not be switched off")
            await delivery.ack()
            return

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _wait_for_the_database(self, error: DatabaseUnavailable, batch: Sequence[Delivery]) -> None:
        """Take nothing until a transaction succeeds again: that of the batch that failed, whose facts are kept for it.

        They are given back like all others: another machine may have a better way to the database.
        """
        self._available(str(error))
        logs.event("intake.waits", logging.WARNING, why=str(error), hint="facts wait in the broker meanwhile")
        facts = [fact for delivery in batch for fact in _facts_of(delivery.message)]
        await self._consumer.stop_taking()
        self._again(self._consumer.prefetch)
        began = time.monotonic()
        while True:
            await self._rest(random.uniform(self._pause / 2, self._pause))
            if self._closing.is_set():
                return
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            try:
                await self._writer.write(facts)
            except DatabaseUnavailable as still:
                self._available(str(still))
            except Exception:  # what cannot be stored is among them: it is found when they come again
                break
            else:
                self._available(None)
                break
        logs.event("intake.resumes", waited_s=round(time.monotonic() - began, 1))
        await self._consumer.take_again()


async def _parted(facts: Sequence[Any]) -> tuple[list[Any], list[tuple[Any, Exception]]]:
    """Those that can be read, and those that cannot, each with its error. Each is looked at once: halving would read
    the good ones again for every bad one, and a message may hold a hundred thousand.
    """
    readable: list[Any] = []
    bad: list[tuple[Any, Exception]] = []
    for number, fact in enumerate(facts, start=1):
        try:
            read(fact)
        except BadFact as error:
            bad.append((fact, error))
        else:
            readable.append(fact)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)  # heartbeats go on
    return readable, bad


def _lies_in_the_fact(error: Exception) -> bool:
    return isinstance(error, BadFact) or unavailable.lies_in_values(error)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _switches_off(fact: Any) -> bool:
    return isinstance(fact, Mapping) and fact.get("kind") == "stopped" and fact.get("disable") is True


def _facts_of(message: Message) -> list[Any]:
    try:
        told = json.loads(message.body)
    except (ValueError, RecursionError):
        return []
    return told if isinstance(told, list) else []


def _message_of(fact: Any) -> Message:
    """A message of its own for one fact, as it can be worked again."""
    return Message(body=json.dumps([fact], separators=(",", ":")).encode(), content_type="application/json")
