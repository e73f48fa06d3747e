"""What the registry says in the moment before a callback: given up, off, or not to be read just now."""

from __future__ import annotations

import asyncio
from typing import Any

from publishing import message
from queues import Bench
from room import AT_ONCE, Scripted, at_work

from notifier.broker.topology import Topology
from notifier.delivery import delivery
from notifier.domain.merchant import Merchant
from notifier.errors import CallWithheld, RegistryUnreadable


class Answers:
    """A registry: cancelled by id, and whether it can be read."""

    def __init__(self, cancelled: dict[str, str] | None = None, *, readable: bool = True) -> None:
        self.given_up = cancelled or {}
        self.readable = readable
        self.asked = asyncio.Event()

    def merchant(self, merchant: str) -> Merchant | None:
        self.asked.set()
        if not self.readable:
            raise RegistryUnreadable("the copy cannot be read")
        return Merchant(merchant, url="http://127.0.0.1:9/")

    def cancelled(self, notification: str, run: int) -> str | None:
        return self.given_up.get(f"{notification}/{run}")


async def test_a_cancelled_run_is_stopped_without_an_attempt_and_a_later_run_is_not(
    broker: Any, bench: Bench, topology: Topology
) -> None:
    callback = Scripted()
    answers = Answers({"ntf_1/0": "taken back"})
    async with at_work(broker.url, topology, callback, lookup=answers.merchant, cancelled=answers.cancelled) as stage:
        for run in (0, 1):
            await stage.publisher.publish(
                message(notification="ntf_1", merchant="shop", run=run), topology.work, AT_ONCE.name
            )
        await stage.delivered(2)
        assert [each.run for each in await stage.settled()] == [1]
        facts = await bench.facts(topology.ledger, 3)
    stopped = next(fact for fact in facts if fact["kind"] == "stopped")
    assert (stopped["run"], stopped["reason"], stopped["detail"]) == (0, "cancelled", "taken back")
    assert stopped["disable"] is False
    assert "payload" in stopped
    assert sorted(fact["kind"] for fact in facts if fact["run"] == 1) == ["attempted", "completed"]
    assert (stage.room.tally.held, stage.room.tally.attempts) == (0, 1)


async def test_while_the_registry_cannot_be_read_nobody_is_called_and_nothing_is_lost(
    broker: Any, bench: Bench, topology: Topology, monkeypatch: Any
) -> None:
    monkeypatch.setattr(delivery, "_LOOK_AGAIN", 0.01)
    callback, answers = Scripted(), Answers(readable=False)
    async with at_work(broker.url, topology, callback, lookup=answers.merchant, cancelled=answers.cancelled) as stage:
        await stage.publisher.publish(message(notification="ntf_1", merchant="shop"), topology.work, AT_ONCE.name)
        for _ in range(3):
            answers.asked.clear()
            async with asyncio.timeout(10):
                await answers.asked.wait()
        assert callback.calls == []
        assert len(stage.room) == 1
        answers.readable = True
        await stage.settled()
        assert [fact["kind"] for fact in await bench.facts(topology.ledger, 2)] == ["attempted", "completed"]
        assert await bench.ready(topology.poison) == 0


async def test_what_is_given_up_while_it_connects_is_stopped(broker: Any, bench: Bench, topology: Topology) -> None:
    answers = Answers()
    callback = Scripted(CallWithheld("not now"))
    callback.gate.clear()
    async with at_work(broker.url, topology, callback, lookup=answers.merchant, cancelled=answers.cancelled) as stage:
        await stage.publisher.publish(message(notification="ntf_1", merchant="shop"), topology.work, AT_ONCE.name)
        await callback.called()
        answers.given_up["ntf_1/0"] = ""
        callback.gate.set()
        await stage.drained()
        [fact] = await bench.facts(topology.ledger, 1)
    assert (fact["kind"], fact["reason"]) == ("stopped", "cancelled")
