"""A wall clock that is set while the process runs: nothing is told to be late that was not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from queues import Bench
from room import Scripted, at_work

from notifier.broker.topology import Topology
from notifier.domain.outcome import ErrorClass, Outcome

REFUSED = Outcome(acknowledged=False, error=ErrorClass.STATUS, status=500)
BODY = b"{}"


def headers(name: str) -> dict[str, Any]:
    return {"merchant": "m", "notification": name, "ladder": "0s,5s", "due-at": int(time.time() * 1000) - 20}


@pytest.mark.parametrize("set_by", [3600.0, -3600.0])
async def test_what_an_hour_was_set_by_is_no_lateness_and_no_due_moment(
    broker: Any, topology: Topology, bench: Bench, declared: None, set_by: float
) -> None:
    ahead = [0.0]
    async with at_work(broker.url, topology, Scripted(REFUSED), clock=lambda: time.time() + ahead[0]) as stage:
        await bench.publish(topology.work, "0s", BODY, headers("before"))
        await stage.settled(1)
        ahead[0] = set_by
        await bench.publish(topology.work, "0s", BODY, headers("after"))
        await stage.settled(2)
        tally = stage.room.tally.read()
        facts = await bench.facts(topology.ledger, 2)
        waiting = await bench.take(topology.wait_queue(topology.tiers[-1]), 2)
    assert [fact["late_ms"] is not None for fact in facts] == [True, False]
    assert tally["clock_errors"] == 1
    assert sum(count for _, count in tally["lateness"]["buckets"]) == 1
    assert ["due-at" in message.headers for message in waiting] == [True, False]
