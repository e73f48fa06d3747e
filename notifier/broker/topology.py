"""What stands on the broker, as values: DESIGN §3. Pure; `declare` makes it so.

Names and arguments are fixed. Arguments are constants, never settings: two versions of notifier that disagree on
one are told so by the broker instead of quietly sharing a queue.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from notifier.domain.tier import Tier

Mechanism = Literal["native", "plugin"]

#: Deliveries of one message before the broker itself gives up on it. A backstop: pauses and drains count too.
WORK_DELIVERY_LIMIT = 200
#: "Never", for queues whose messages are ours alone. -1 dead-letters at the first nack on 3.10 (FACTS §1).
NO_DELIVERY_LIMIT = 1_000_000_000
#: The share of a partition among the others, as the routing key of its binding: all have the same.
PARTITION_WEIGHT = "1"
#: The most partitions that a tier can have: each is a process on every machine.
MOST_PARTITIONS = 64


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange to declare, durable."""

    name: str
    kind: str = "direct"
    arguments: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A quorum queue to declare. arguments: without `x-queue-type`."""

    name: str
    arguments: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of `source` with this key go to `destination`, a queue or another exchange."""

    source: str
    destination: str
    routing_key: str
    to_exchange: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """How to publish a message so that it waits in a tier."""

    exchange: str
    routing_key: str
    headers: Mapping[str, str | int] = field(default_factory=dict)
    mandatory: bool = True


@dataclass(frozen=True, slots=True)
class Topology:
    """The objects of one namespace. Everything here is computed from the four fields.

    partitions: work queues of each tier. With one it is bound directly; with several a consistent-hash exchange gives
    each merchant's notifications to always the same one.
    """

    namespace: str
    tiers: tuple[Tier, ...]
    mechanism: Mechanism = "native"
    partitions: int = 1

    @property
    def wait(self) -> str:
        """The delayed exchange of the native mechanism; producers publish here with a tier as routing key."""
        return f"{self.namespace}.wait"

    @property
    def delayed(self) -> str:
        """The delayed exchange of the plugin."""
        return f"{self.namespace}.delayed"

    @property
    def work(self) -> str:
        """The exchange behind both mechanisms."""
        return f"{self.namespace}.work"

    @property
    def ledger(self) -> str:
        """The queue of facts."""
        return f"{self.namespace}.ledger"

    @property
    def poison(self) -> str:
        """The queue of what could not be read, or kills its consumer."""
        return f"{self.namespace}.poison"

    @property
    def control(self) -> str:
        """The fanout exchange between machines."""
        return f"{self.namespace}.control"

    @property
    def record(self) -> str:
        """Where is asked what was recorded of the namespace: see `record`."""
        return f"{self.namespace}.record"

    @property
    def recorded(self) -> str:
        """Where the answers come out."""
        return f"{self.namespace}.recorded"

    @property
    def canary(self) -> str:
        """A name that no queue has: see `canary`."""
        return f"{self.namespace}.canary"

    @property
    def mark(self) -> str:
        """An exchange that stands as long as this is the number of partitions and nobody is changing it."""
        return f"{self.namespace}.partitions.{self.partitions}"

    def wait_queue(self, tier: Tier) -> str:
        """Where a notification waits for its tier."""
        return f"{self.wait}.{tier.name}"

    def work_queue(self, tier: Tier, partition: int | None = None) -> str:
        """Where a notification of this tier is due. partition: None in a tier without partitions."""
        return f"{self.work}.{tier.name}" if partition is None else f"{self.work}.{tier.name}.{partition}"

    def work_queues(self, tier: Tier) -> tuple[str, ...]:
        """All queues in which notifications of this tier come due."""
        return tuple(self.work_queue(tier, partition) for partition in self.numbered)

    @property
    def numbered(self) -> tuple[int | None, ...]:
        """The partitions of each tier, by their numbers; (None,) without any."""
        return (None,) if self.partitions == 1 else tuple(range(self.partitions))

    def hashing(self, tier: Tier) -> str:
        """The exchange that chooses the partition."""
        return f"{self.work}.{tier.name}.hash"

    def way(self, tier: Tier) -> Way:
        """How a message comes to wait in this tier."""
        if tier.seconds == 0:
            return Way(self.work, tier.name)
        if self.mechanism == "native":
            return Way(self.wait, tier.name)
        # The plugin returns every mandatory message as unroutable and delivers it later all the same (FACTS §1).
        return Way(self.delayed, tier.name, {"x-delay": tier.milliseconds}, mandatory=False)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """In the order of declaration: where messages arrive before where they come from."""
        known = [
            *([] if self.partitions == 1 else [self.hash_exchange(tier) for tier in self.tiers]),
            *(Exchange(self.work), Exchange(self.wait), Exchange(self.control, "fanout")),
            *(Exchange(self.recorded, "fanout"), Exchange(self.record)),
        ]
        if self.mechanism == "plugin":
            known.append(Exchange(self.delayed, "x-delayed-message", {"x-delayed-type": "direct"}))
        return tuple(known)

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Work before wait: a dead-lettered message without a route would stall its tier for 180 s (FACTS §1)."""
        return (
            Queue(self.poison, {"x-delivery-limit": NO_DELIVERY_LIMIT}),
            Queue(self.ledger, {"x-delivery-limit": NO_DELIVERY_LIMIT, **self._to_poison}),
            *(self.working(tier, partition) for tier in self.tiers for partition in self.numbered),
            *(self.waiting(tier) for tier in self.tiers if tier.seconds),
        )

    def working(self, tier: Tier, partition: int | None) -> Queue:
        """A work queue. A partition has one consumer at a time, whoever else waits to take its place."""
        alone: dict[str, str | int] = {} if partition is None else {"x-single-active-consumer": True}
        return Queue(
            self.work_queue(tier, partition), {"x-delivery-limit": WORK_DELIVERY_LIMIT, **alone, **self._to_poison}
        )

    def waiting(self, tier: Tier) -> Queue:
        """The wait queue of a tier with a delay."""
        return Queue(self.wait_queue(tier), self._waiting(tier))

    def hash_exchange(self, tier: Tier) -> Exchange:
        """What gives the notifications of a merchant to always the same partition."""
        return Exchange(self.hashing(tier), "x-consistent-hash", {"hash-header": "merchant"})

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Work before wait, as above."""
        waiting = [tier for tier in self.tiers if tier.seconds]
        bound = list(self.to_work)
        # Foreign producers know only the wait exchange, so a tier of no delay passes straight through it.
        bound += [Binding(self.wait, self.work, tier.name, to_exchange=True) for tier in self.tiers if not tier.seconds]
        bound += [Binding(self.wait, self.wait_queue(tier), tier.name) for tier in waiting]
        if self.mechanism == "plugin":
            bound += [Binding(self.delayed, self.work, tier.name, to_exchange=True) for tier in waiting]
        return tuple(bound)

    @property
    def to_work(self) -> tuple[Binding, ...]:
        """Those that lead into the work queues: the number of partitions decides them."""
        return tuple(binding for tier in self.tiers for binding in self._to_work(tier))

    def _to_work(self, tier: Tier) -> list[Binding]:
        if self.partitions == 1:
            return [Binding(self.work, self.work_queue(tier), tier.name)]
        hashing = self.hashing(tier)
        return [
            *(Binding(hashing, queue, PARTITION_WEIGHT) for queue in self.work_queues(tier)),
            Binding(self.work, hashing, tier.name, to_exchange=True),
        ]

    @property
    def _to_poison(self) -> dict[str, str | int]:
        return {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.poison,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def _waiting(self, tier: Tier) -> dict[str, str | int]:
        return {
            "x-message-ttl": tier.milliseconds,
            "x-dead-letter-exchange": self.work,
            "x-dead-letter-routing-key": tier.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }


def owned_names(topology: Topology) -> tuple[Collection[str], Collection[str]]:
    """Queue names and exchange names of a topology, for whoever looks at or removes all of it."""
    return [queue.name for queue in topology.queues], [exchange.name for exchange in topology.exchanges] + [
        topology.mark
    ]
