"""The ack is the last effect, and none is forgotten when the connection is lost while one is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from notifier.broker.consumer import Delivery
from notifier.broker.topology import Topology
from notifier.delivery.delivery import DeliveryRoom
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

TIER = Tier(1)
ORDER = Message(b"{}", {"merchant": "shop", "notification": "n1", "url": "http://shop/"}, message_id="m1")


class PlayedDelivery:
    """A delivery whose channel can be lost while its acknowledgement is written."""

    def __init__(self, *, redelivered: bool = False, lost_during_ack: Callable[[], None] | None = None) -> None:
        self.message = ORDER
        self.redelivered = redelivered
        self.stale = False
        self.acks = 0
        self._lost_during_ack = lost_during_ack

    async def ack(self) -> bool:
        self.acks += 1
        if self._lost_during_ack is not None:
            self.stale = True
            self._lost_during_ack()
        return not self.stale


class Nowhere:
    """A recorder and publisher that confirm at once."""

    async def record(self, *facts: Any) -> None:
        """Confirmed."""

    async def insist_by(self, way: Any, message: Any) -> None:
        """Confirmed."""


class Acknowledging:
    """A callback whose merchants acknowledge."""

    needs_url = True

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        return Outcome.ok()


def room() -> DeliveryRoom:
    nowhere = cast(Any, Nowhere())
    return DeliveryRoom(
        TIER,
        [TIER],
        Ladder((TIER,)),
        Topology("unit", (TIER,)),
        nowhere,
        nowhere,
        cast(Any, Acknowledging()),
        Merchant,
        most_payload=1000,
    )


async def test_a_redelivery_adopted_while_the_lost_one_is_acknowledged_is_acknowledged_as_well() -> None:
    working = room()
    again = PlayedDelivery(redelivered=True)
    first = PlayedDelivery(lost_during_ack=lambda: working.take(cast(Delivery, again)))
    task = working.take(cast(Delivery, first))
    assert task is not None
    await task
    await working.drained()
    assert (first.acks, again.acks) == (1, 1)
    assert len(working) == 0


async def test_a_redelivery_of_what_was_settled_is_acknowledged_without_another_call() -> None:
    working = room()
    first = PlayedDelivery()
    working.take(cast(Delivery, first))
    await working.drained()
    again = PlayedDelivery(redelivered=True)
    working.take(cast(Delivery, again))
    await working.drained()
    assert (first.acks, again.acks) == (1, 1)
