"""A service that is ended while much is in its hands finishes that, and none of it comes again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.control import Producer
from tests.acceptance.service import ROOMY, environment, running

MERCHANTS = [f"shop-{number}" for number in range(24)]


#: Bursts, and notifications of each: as many as a prefetch, and as many again that wait behind it.
BURSTS, EACH = 5, 400


@pytest.mark.long
async def test_what_a_drain_finished_does_not_come_again(broker: Any, namespace: str) -> None:
    """RabbitMQ keeps acknowledgements of a quorum queue back when hundreds come at once, and forgets them when their
    channel closes before they went on (rabbit_fifo_client, its soft limit).
    """
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", **ROOMY)
    slow = Script.parse("slow:0.4")
    async with Simulator({f"/{each}": slow for each in MERCHANTS}) as merchant, Producer(variables) as producer:
        for number in range(BURSTS):
            async with running(variables) as service:
                before = len(merchant.received)
                await producer.send(MERCHANTS, merchant.url, EACH)
                await merchant.wait_for(before + 150, timeout=30)
                assert await service.stop() == 0
            assert len(merchant.received) < (number + 1) * EACH, "it was ended in the middle"
        async with running(variables):
            await merchant.wait_for(
                lambda received: {each.webhook_id for each in received} == set(producer.accepted), timeout=60
            )
    seen = Counter(each.webhook_id for each in merchant.received)
    assert len(seen) == BURSTS * EACH
    assert {name: count for name, count in seen.items() if count > 1} == {}
