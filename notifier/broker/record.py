"""What a namespace ever had, kept on the broker itself: every tier, every number of partitions, the number now.

Where else: producers have no database and a new machine has an empty disk; the broker is all that they share. A client
can neither list queues nor read arguments, so the record is made of what a client can ask for: whether a message has a
route. A **word** is a binding of the exchange NAMESPACE.record; it is recorded if a question with it as routing key is
not returned. Words are written and struck like all bindings: at once for everybody, durably, on every node, as often as
one likes. Reading takes nothing away, so any number may read at the same time.

    tier/5s      the namespace has, or had, this tier
    had/4        it has, or had, so many partitions
    number/4     it has so many now; two of them: a change was begun and not finished
    leaving/…    this slot is being pruned; bound to the queue of whoever does it, so it ends with that connection

Words are found letter by letter: each of their beginnings is recorded, too, with a tilde (`tier/5~`).

Questions are publishes, and a memory or disk alarm blocks the connection of whoever publishes. So they never travel on
a connection that is needed otherwise, and nobody needs to ask as long as the **mark** stands: the exchange
NAMESPACE.partitions.4, which tells whoever connects with that number that it is right, and which is away while
something is being changed.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiormq import spec
from aiormq.channel import Channel
from aiormq.exceptions import ChannelLockedResource, ChannelNotFoundEntity, PublishError

from notifier.broker.connection import Link, beside
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.errors import BrokerError

_TIER, _HAD, _NUMBER, _LEAVING = "tier/", "had/", "number/", "leaving/"
#: The letters with which a word can end, and those after which more can follow.
_OF_TIERS = ("dhms", "0123456789dhm")
_OF_NUMBERS = ("0123456789", "0123456789")
#: Seconds for whoever needs the number while somebody changes it, and between two looks.
_PATIENCE, _BLINK = 20.0, 0.1


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was found. tiers: all there ever were. had: all numbers of partitions there ever were.

    numbers: the one that counts now; none in a namespace without a record, two after a change that was not finished.
    """

    tiers: tuple[Tier, ...]
    had: tuple[int, ...]
    numbers: tuple[int, ...]

    @property
    def partitions(self) -> int | None:
        """The number now; None when there is none, or it is not certain."""
        return self.numbers[0] if len(self.numbers) == 1 else None

    def retired(self, configured: Iterable[Tier]) -> tuple[Tier, ...]:
        """The tiers that are in no ladder any more."""
        return tuple(tier for tier in self.tiers if tier not in set(configured))

    def partitions_of_old(self, now: int) -> tuple[int | None, ...]:
        """The partitions of a tier that are fed no more; None is the queue of a tier without any.

        now: the number that counts.
        """
        unpartitioned: list[int | None] = [None] if now != 1 and 1 in self.had else []
        most = max((number for number in self.had if number > 1), default=0)
        return (*unpartitioned, *range(0 if now == 1 else now, most))


class Record:
    """The record of one namespace, over a channel with confirms. Made by `reading`."""

    def __init__(self, channel: Channel, topology: Topology) -> None:
        self._channel = channel
        self._topology = topology

    async def open(self) -> None:
        """Make the exchanges, and a queue that swallows what had a route. It ends with the connection."""
        await declare_exchanges(self._channel, self._topology)
        name = f"{self._topology.record}.{uuid.uuid4().hex}"
        await self._channel.queue_declare(
            name, exclusive=True, arguments={"x-queue-type": "classic", "x-max-length": 0}
        )
        await self._channel.queue_bind(name, self._topology.recorded)

    async def read(self) -> Recorded:
        """All of it, as it is now."""
        tiers, had, numbers = await asyncio.gather(
            self._words(_TIER, _OF_TIERS), self._words(_HAD, _OF_NUMBERS), self._words(_NUMBER, _OF_NUMBERS)
        )
        return Recorded(
            tuple(sorted(map(Tier.parse, tiers))), tuple(sorted(map(int, had))), tuple(sorted(map(int, numbers)))
        )

    async def leaving(self, slots: Sequence[str]) -> list[str]:
        """Those of the slots that somebody is pruning just now."""
        said = await asyncio.gather(*(self._says(f"{_LEAVING}{slot}") for slot in slots))
        return [slot for slot, leaves in zip(slots, said, strict=True) if leaves]

    async def note_number(self, number: int) -> None:
        """From now on it is among the numbers."""
        await self._note(f"{_HAD}{number}")
        await self._note(f"{_NUMBER}{number}")

    async def strike_number(self, number: int) -> None:
        """It is not the number now; that it was is kept."""
        await self._strike(f"{_NUMBER}{number}")

    async def forget_number(self, number: int) -> None:
        """Nothing is left of the time in which it was the number."""
        await self._strike(f"{_HAD}{number}")

    async def note_tier(self, tier: Tier) -> None:
        """The namespace has it."""
        await self._note(f"{_TIER}{tier.name}")

    async def forget_tier(self, tier: Tier) -> None:
        """Nothing of it is left on the broker."""
        await self._strike(f"{_TIER}{tier.name}")

    async def is_marked(self, number: int) -> bool:
        """Whether the mark of this number stands."""
        return await is_marked(self._channel, _with(self._topology, number))

    async def set_mark(self, number: int) -> None:
        """Let everybody who connects with this number know that it is right."""
        await self._channel.exchange_declare(_with(self._topology, number).mark, exchange_type="fanout", durable=True)

    async def remove_mark(self, number: int) -> None:
        """Let everybody who connects ask. A missing one is fine."""
        await self._channel.exchange_delete(_with(self._topology, number).mark)

    async def note_leaving(self, slot: str) -> None:
        """Let no service keep a process in this slot for as long as we hold the lock."""
        await self._channel.queue_bind(_lock(self._topology), self._topology.record, f"{_LEAVING}{slot}")

    async def strike_leaving(self, slot: str) -> None:
        """It may stay."""
        await self._channel.queue_unbind(_lock(self._topology), self._topology.record, f"{_LEAVING}{slot}")

    async def lock(self) -> bool:
        """Whether we alone may change the record from now on, until the connection ends. Never waits."""
        try:
            async with beside(self._channel) as asking:
                await asking.queue_declare(
                    _lock(self._topology), exclusive=True, arguments={"x-queue-type": "classic", "x-max-length": 0}
                )
        except ChannelLockedResource:
            return False
        return True

    async def unlock(self) -> None:
        """Let others change the record, and nothing be leaving any more."""
        await self._channel.queue_delete(_lock(self._topology))

    async def _words(self, stem: str, letters: tuple[str, str]) -> list[str]:
        """All words with this stem, without it."""
        ending, going_on = letters
        found: list[str] = []
        begun = [stem]
        while begun:
            words = [f"{each}{letter}" for each in begun for letter in ending]
            beginnings = [f"{each}{letter}~" for each in begun for letter in going_on]
            said = await asyncio.gather(*map(self._says, [*words, *beginnings]))
            recorded = {word for word, is_so in zip([*words, *beginnings], said, strict=True) if is_so}
            found += [word for word in words if word in recorded]
            begun = [each.removesuffix("~") for each in beginnings if each in recorded]
        return [word.removeprefix(stem) for word in found]

    async def _says(self, word: str) -> bool:
        question = spec.Basic.Properties(message_id=uuid.uuid4().hex, delivery_mode=1)
        try:
            await self._channel.basic_publish(
                b"", exchange=self._topology.record, routing_key=word, mandatory=True, properties=question
            )
        except PublishError:
            return False
        return True

    async def _note(self, word: str) -> None:
        await note(self._channel, self._topology, [word])

    async def _strike(self, word: str) -> None:
        await self._channel.exchange_unbind(self._topology.recorded, self._topology.record, word)


@asynccontextmanager
async def reading(urls: Sequence[str], topology: Topology, name: str, patience: float | None) -> AsyncIterator[Record]:
    """The record for a while, over a connection of its own. Raises BrokerUnreachable, ConfigurationError."""

    async def nothing(_: Channel) -> None:
        return None

    link = Link(urls, name, nothing, confirms=True)
    await link.start(patience)
    try:
        record = Record(await link.channel(), topology)
        await record.open()
        yield record
    finally:
        await link.close()


async def declare_exchanges(channel: Channel, topology: Topology) -> None:
    """What the record is made of."""
    await channel.exchange_declare(topology.recorded, exchange_type="fanout", durable=True)
    await channel.exchange_declare(topology.record, exchange_type="direct", durable=True)


async def note_tiers(channel: Channel, topology: Topology) -> None:
    """Record the tiers of a topology, before anything of them is made. Publishes nothing."""
    await note(channel, topology, [f"{_TIER}{tier.name}" for tier in topology.tiers])


async def note(channel: Channel, topology: Topology, words: Sequence[str]) -> None:
    """Write words, their beginnings first, so that whoever finds a beginning may look for more."""
    keys = dict.fromkeys(key for word in words for key in _keys(word))
    for key in keys:
        await channel.exchange_bind(topology.recorded, topology.record, key, nowait=True)
    await declare_exchanges(channel, topology)  # answered after all of them


async def number_of(channel: Channel, topology: Topology) -> int | None:
    """The number of partitions of this namespace, which is the topology's if none is recorded; that is recorded then.

    None after a change that was begun and not finished: what leads to the work queues must be left alone. Waits while
    somebody changes it, for a while; then BrokerError. channel: only its connection is used, and nothing published
    there.
    """
    if await is_marked(channel, topology):
        return topology.partitions
    async with beside(channel) as asking:
        is_old = await stands(asking, topology.work)
    urls = [str(channel.connection.url)]
    async with reading(urls, topology, "record", _PATIENCE) as record:
        return await _asked(record, topology, is_old)


async def is_marked(channel: Channel, topology: Topology) -> bool:
    """Whether the mark of the topology's number stands. channel: only its connection is used."""
    async with beside(channel) as asking:
        return await stands(asking, topology.mark)


async def _asked(record: Record, topology: Topology, is_old: bool) -> int | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            while True:
                recorded = await record.read()
                if recorded.partitions is not None and await record.is_marked(recorded.partitions):
                    return recorded.partitions
                if await record.lock():
                    return await _claimed(record, topology, is_old)
                await asyncio.sleep(_BLINK)
    except TimeoutError:
        raise BrokerError(
            f"the record of namespace {topology.namespace} cannot be had: `notifier topology` is changing it just now, "
            "or the broker takes no messages (a memory or disk alarm)"
        ) from None


async def _claimed(record: Record, topology: Topology, is_old: bool) -> int | None:
    """With the lock: what is recorded by now, else what is to be recorded first.

    is_old: the namespace is older than records, and had no partitions then.
    """
    recorded = await record.read()
    if len(recorded.numbers) > 1:
        return None
    number = recorded.partitions or (1 if is_old else topology.partitions)
    await record.note_number(number)
    await record.set_mark(number)
    return number


async def stands(channel: Channel, exchange: str) -> bool:
    """Whether there is such an exchange; if not, the channel is closed."""
    try:
        await channel.exchange_declare(exchange, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


def _keys(word: str) -> list[str]:
    kind, _, rest = word.partition("/")
    return [f"{kind}/{rest[:length]}~" for length in range(1, len(rest))] + [word]


def _lock(topology: Topology) -> str:
    return f"{topology.record}.lock"


def _with(topology: Topology, number: int) -> Topology:
    return Topology(topology.namespace, topology.tiers, topology.mechanism, number)
