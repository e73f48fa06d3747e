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
    """The objects of one namespace. Everything here is computed from the three fields."""

    namespace: str
    tiers: tuple[Tier, ...]
    mechanism: Mechanism = "native"

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

    def wait_queue(self, tier: Tier) -> str:
        """Where a notification waits for its tier."""
        return f"{self.wait}.{tier.name}"

    def work_queue(self, tier: Tier) -> str:
        """Where a notification of this tier is due."""
        return f"{self.work}.{tier.name}"

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
        known = [Exchange(self.work), Exchange(self.wait), Exchange(self.control, "fanout")]
        if self.mechanism == "plugin":
            known.append(Exchange(self.delayed, "x-delayed-message", {"x-delayed-type": "direct"}))
        return tuple(known)

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Work before wait: a dead-lettered message without a route would stall its tier for 180 s (FACTS §1)."""
        to_poison: dict[str, str | int] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.poison,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        return (
            Queue(self.poison, {"x-delivery-limit": NO_DELIVERY_LIMIT}),
            Queue(self.ledger, {"x-delivery-limit": NO_DELIVERY_LIMIT, **to_poison}),
            *(
                Queue(self.work_queue(tier), {"x-delivery-limit": WORK_DELIVERY_LIMIT, **to_poison})
                for tier in self.tiers
            ),
            *(Queue(self.wait_queue(tier), self._waiting(tier)) for tier in self.tiers if tier.seconds),
        )

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Work before wait, as above."""
        waiting = [tier for tier in self.tiers if tier.seconds]
        bound = [Binding(self.work, self.work_queue(tier), tier.name) for tier in self.tiers]
        # Foreign producers know only the wait exchange, so a tier of no delay passes straight through it.
        bound += [Binding(self.wait, self.work, tier.name, to_exchange=True) for tier in self.tiers if not tier.seconds]
        bound += [Binding(self.wait, self.wait_queue(tier), tier.name) for tier in waiting]
        if self.mechanism == "plugin":
            bound += [Binding(self.delayed, self.work, tier.name, to_exchange=True) for tier in waiting]
        return tuple(bound)

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
    return [queue.name for queue in topology.queues], [exchange.name for exchange in topology.exchanges]
