"""Every row of DESIGN §4 walked on a real broker: what is left there after each outcome, and what the ledger gets."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from queues import Bench
from room import Scripted, Stage, at_work

from notifier.broker.topology import Topology
from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant, Standing
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.domain.tier import Tier

AT_ONCE, LATER, LAST = Tier(0), Tier(5), Tier(1)
BODY = b'{"order": 42,\n "paid": true}'
REFUSED = Outcome(False, status=500, error=ErrorClass.STATUS, detail="500 from the merchant")
GONE = Outcome(False, status=410, error=ErrorClass.STATUS, detail="410 Gone", gone=True)


def busy(status: int, seconds: float) -> Outcome:
    return Outcome(False, status=status, error=ErrorClass.STATUS, detail="busy", retry_after=seconds)


async def enqueue(bench: Bench, topology: Topology, tier: Tier = AT_ONCE, **headers: Any) -> None:
    known = {"merchant": "m1", "notification": "n1", **headers}
    await bench.publish(
        topology.work,
        tier.name,
        BODY,
        {name.replace("_", "-"): value for name, value in known.items()},
        content_type="application/json",
        message_id="first-publish",
    )


async def settled(stage: Stage, bench: Bench, calls: int = 1) -> None:
    """Wait until it is settled, and see that the work queue is empty: it was acknowledged."""
    await stage.settled(calls)
    await stage.consumer.close()
    assert await bench.left(stage.queue) == 0


async def waiting(topology: Topology, bench: Bench) -> dict[str, int]:
    """Messages by the tier they wait in, empty ones left out."""
    ready = {tier.name: await bench.ready(topology.wait_queue(tier)) for tier in topology.tiers if tier.seconds}
    return {tier: count for tier, count in ready.items() if count}


async def test_acknowledged_it_is_complete(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(Outcome.ok("200", status=200))) as stage:
        await enqueue(bench, topology)
        await settled(stage, bench)
        assert await waiting(topology, bench) == {}
        attempted, completed = await bench.facts(topology.ledger, 2)
    assert (attempted["kind"], attempted["decision"], attempted["status"]) == ("attempted", "complete", 200)
    assert (completed["kind"], completed["notification"]) == ("completed", "n1")
    assert base64.b64decode(completed["payload"]) == BODY


async def test_not_acknowledged_it_waits_in_the_next_tier(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        before = time.time() * 1000
        await enqueue(bench, topology, url="https://shop.example/paid", reference="order 42", ladder="0s,5s,1s")
        await settled(stage, bench)
        assert await waiting(topology, bench) == {"5s": 1}
        (message,) = await bench.take(topology.wait_queue(LATER))
        (fact,) = await bench.facts(topology.ledger, 1)
    due = message.headers["due-at"]
    assert message.body == BODY
    assert message.content_type == "application/json"
    assert dict(message.headers) == {
        "v": 1,
        "notification": "n1",
        "merchant": "m1",
        "url": "https://shop.example/paid",
        "reference": "order 42",
        "ladder": "0s,5s,1s",
        "step": 1,
        "attempt": 2,
        "run": 0,
        "enqueued-at": message.headers["enqueued-at"],
        "due-at": due,
    }
    assert before + 5000 <= due <= time.time() * 1000 + 5000
    assert message.message_id not in (None, "first-publish")
    assert (fact["kind"], fact["decision"], fact["next_tier"]) == ("attempted", "next-tier", "5s")


async def test_the_ladder_is_climbed_to_its_end_through_every_room(broker, topology: Topology, bench: Bench) -> None:
    """Two attempts of one notification in two tiers, the broker's own delay between them."""
    ladder = "0s,1s"
    last = Scripted(REFUSED)
    async with (
        at_work(broker.url, topology, Scripted(REFUSED)) as first_stage,
        at_work(broker.url, topology, last, tier=LAST) as last_stage,
    ):
        await enqueue(bench, topology, ladder=ladder)
        await first_stage.settled()
        (notification,) = await last_stage.settled()
        facts = await bench.facts(topology.ledger, 3)
    assert (notification.step, notification.attempt, notification.id) == (1, 2, "n1")
    assert notification.extra == {}  # no x-death of the way through the wait queue
    assert [fact["kind"] for fact in facts] == ["attempted", "attempted", "exhausted"]
    assert [fact["number"] for fact in facts[:2]] == [1, 2]
    assert facts[2]["reason"] == "500 from the merchant"
    assert base64.b64decode(facts[2]["payload"]) == BODY


async def test_what_the_broker_wrote_on_the_way_is_never_copied(broker, topology: Topology, bench: Bench) -> None:
    theirs = {
        "x-death": [{"queue": "wait", "count": 1}],
        "x-first-death-queue": "wait",
        "x-last-death-reason": "expired",
        "x-delay": -1000,
        "CC": ["1s"],
        "BCC": ["1s"],
        "x-their-own": {"deep": [1, None, "ü"]},
        "shop": "no. 7",
    }
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        await bench.publish("", topology.work_queue(AT_ONCE), BODY, {"merchant": "m1", **theirs}, message_id="n1")
        await settled(stage, bench)
        (message,) = await bench.take(topology.wait_queue(LATER))
    kept = {name: value for name, value in message.headers.items() if name in theirs}
    assert kept == {"x-their-own": {"deep": [1, None, "ü"]}, "shop": "no. 7"}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("seconds", "tier"), [(0.5, "1s"), (3, "5s"), (3600, "5s")])
async def test_retry_after_takes_one_step_and_the_tier_that_covers_it(
    broker, topology: Topology, bench: Bench, status: int, seconds: float, tier: str
) -> None:
    async with at_work(broker.url, topology, Scripted(busy(status, seconds))) as stage:
        await enqueue(bench, topology, ladder="0s,1s,1s")
        await settled(stage, bench)
        # nobody works in the other tiers here; what waits for 1 s may be over there before it is looked for
        queue = topology.work_queue(Tier(1)) if tier == "1s" else topology.wait_queue(Tier.parse(tier))
        (message,) = await bench.take(queue)
    assert (message.headers["step"], message.headers["attempt"]) == (1, 2)


async def test_retry_after_with_the_ladder_used_up_is_exhausted(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(busy(503, 1))) as stage:
        await enqueue(bench, topology, ladder="0s")
        await settled(stage, bench)
        assert await waiting(topology, bench) == {}
        attempted, exhausted = await bench.facts(topology.ledger, 2)
    assert (attempted["decision"], exhausted["kind"]) == ("exhausted", "exhausted")


async def test_a_tier_that_is_no_longer_configured_is_covered_by_another(broker, topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        await enqueue(bench, topology, ladder="0s,3s,7s")
        await settled(stage, bench)
        (message,) = await bench.take(topology.wait_queue(LATER))
    assert (message.headers["step"], message.headers["ladder"]) == (1, "0s,3s,7s")


async def test_gone_it_is_stopped_without_another_attempt(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(GONE)) as stage:
        await enqueue(bench, topology, url="https://shop.example/paid")
        await settled(stage, bench)
        assert await waiting(topology, bench) == {}
        attempted, stopped = await bench.facts(topology.ledger, 2)
    assert (attempted["decision"], stopped["kind"], stopped["reason"]) == ("stopped", "stopped", "410 Gone")
    assert stopped["disable"] is False
    assert base64.b64decode(stopped["payload"]) == BODY


async def test_gone_at_the_registered_address_the_merchant_is_to_be_disabled(broker, topology, bench: Bench) -> None:
    merchant = Merchant("m1", url="https://shop.example/registered")
    async with at_work(broker.url, topology, Scripted(GONE), merchants=[merchant]) as stage:
        await enqueue(bench, topology)
        await settled(stage, bench)
        _, stopped = await bench.facts(topology.ledger, 2)
    assert stopped["disable"] is True


@pytest.mark.parametrize(
    ("merchants", "reason", "detail"),
    [
        ([], "unknown-merchant", "neither the notification nor the registry has a url"),
        ([Merchant("m1", standing=Standing.DISABLED, why="410 at nine")], "disabled", "410 at nine"),
        ([Merchant("m1", url="https://a.example", standing=Standing.BLOCKED, why="fraud")], "blocked", "fraud"),
    ],
    ids=["unknown without a url", "disabled", "blocked"],
)
async def test_what_may_not_be_attempted_is_held_with_everything_in_the_ledger(
    broker, topology: Topology, bench: Bench, merchants: list[Merchant], reason: str, detail: str
) -> None:
    callback = Scripted(needs_url=True)
    async with at_work(broker.url, topology, callback, merchants=merchants) as stage:
        await enqueue(bench, topology, step=1, attempt=2, run=3, shop="no. 7")
        (held,) = await bench.facts(topology.ledger, 1)
        await stage.drained()
        await stage.consumer.close()
        assert await bench.left(stage.queue) == 0
        assert await waiting(topology, bench) == {}
    assert callback.calls == []
    assert (held["kind"], held["reason"], held["detail"]) == ("held", reason, detail)
    assert base64.b64decode(held["payload"]) == BODY
    assert held["run"] == 3
    kept = {name: held["headers"][name] for name in ("merchant", "step", "attempt", "shop")}
    assert kept == {"merchant": "m1", "step": 1, "attempt": 2, "shop": "no. 7"}  # no step used


async def test_a_merchant_s_own_address_and_ladder_serve_where_the_notification_has_none(
    broker, topology: Topology, bench: Bench
) -> None:
    merchant = Merchant("m1", url="https://a.example", ladder=Ladder.parse("0s,1s"), ack=AckRule.parse("body=success"))
    callback = Scripted(REFUSED, needs_url=True)
    async with at_work(broker.url, topology, callback, merchants=[merchant]) as stage:
        await enqueue(bench, topology)
        await settled(stage, bench)
        (message,) = await bench.take(topology.work_queue(LAST))
    assert message.headers["ladder"] == "0s,1s"


async def test_the_default_ladder_serves_where_nobody_names_one(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        await enqueue(bench, topology)
        await settled(stage, bench)
        (message,) = await bench.take(topology.wait_queue(LATER))
    assert message.headers["ladder"] == "0s,5s,1s"


async def test_it_runs_where_it_arrives_even_if_its_ladder_says_otherwise(broker, topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        await enqueue(bench, topology, ladder="5s,1s", step=0)
        await settled(stage, bench)
        (fact,) = await bench.facts(topology.ledger, 1)
    assert (fact["tier"], fact["next_tier"]) == ("0s", "1s")


async def test_a_step_beyond_the_ladder_is_its_last(broker, topology: Topology, bench: Bench) -> None:
    async with at_work(broker.url, topology, Scripted(REFUSED)) as stage:
        await enqueue(bench, topology, ladder="0s,5s", step=7)
        await settled(stage, bench)
        _, exhausted = await bench.facts(topology.ledger, 2)
    assert exhausted["kind"] == "exhausted"


async def test_a_message_without_any_id_is_stamped_before_anyone_is_called(broker, topology, bench: Bench) -> None:
    callback = Scripted(REFUSED)
    async with at_work(broker.url, topology, callback) as stage:
        await bench.publish_bare(topology.work, "0s", BODY, {"merchant": "m1", "shop": "no. 7"})
        await settled(stage, bench)
        (notification,) = callback.calls
        unnamed, named = stage.deliveries
        (waits,) = await bench.take(topology.wait_queue(LATER))
    assert unnamed.message.message_id is None
    assert named.message.headers["notification"] == notification.id == waits.headers["notification"]
    assert notification.id.startswith("ntf_")
    assert notification.extra == {"shop": "no. 7"}
    assert notification.payload == BODY


@pytest.mark.parametrize(
    ("properties", "identity"),
    [
        ({"message_id": "mid"}, "mid"),
        ({"message_id": "mid", "correlation_id": "cid"}, "cid"),
        ({"message_id": "order 42!", "correlation_id": "cid"}, "cid"),
    ],
)
async def test_an_id_of_the_producer_is_used_in_every_attempt(
    broker, topology: Topology, bench: Bench, properties: dict[str, str], identity: str
) -> None:
    callback = Scripted(REFUSED)
    async with at_work(broker.url, topology, callback) as stage:
        await bench.publish(topology.work, "0s", BODY, {"merchant": "m1"}, **properties)
        await settled(stage, bench)
        (message,) = await bench.take(topology.wait_queue(LATER))
    assert [callback.calls[0].id, message.headers["notification"]] == [identity, identity]
