"""One merchant never harms another: tier processes of a real service, with merchants that hang or fail."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime

from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.control import Producer, operator_of, until_keys
from tests.acceptance.service import environment, running

#: Seconds that a breaker of these tests is open, where that is what is tested.
_PAUSE = 4


async def test_what_one_tier_learned_of_a_failing_merchant_all_know_and_a_restarted_one_too(broker, namespace) -> None:
    """Its breaker opens in the first tier; the second makes no attempt; one probe closes it everywhere."""
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_BREAKER__ATTEMPTS="4", NOTIFIER_BREAKER__PAUSE="8"
    )
    async with (
        Simulator(default=Script.parse("500")) as failing,
        Simulator() as mended,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        failed = await producer.send(["m"], failing.url, 4)
        await service.event("breaker", state="open", merchant="m")
        (key,) = await until_keys(operator, "breaker/m", 1)
        assert (key["value"]["state"], key["value"]["slot"], key["value"]["failed"]) == ("open", "tier:1s", 4)

        # in the second tier they are due two seconds later, and the breaker is open there as well
        held = await service.several(4, "held", tier="2s", reason="breaker-open")
        assert {event["notification"] for event in held} == set(failed)
        await operator.ask("restart", {"to": "tier:2s"}, timeout=60)
        assert len(failing.received) == 4
        await asyncio.sleep(max(0.0, key["value"]["until"] / 1000 - 1 - time.time()))  # there is no other sign of it
        probe = await producer.send(["m"], mended.url, 1)
        await service.event("breaker", state="closed", merchant="m")
        assert len(mended.received) == 1
        closed = await service.event("attempt", notification=probe[0])
        assert closed["decision"] == "complete"
        await until_keys(operator, "breaker/", 0)


async def test_who_acknowledges_each_second_attempt_is_not_cut_off_for_failing_each_first_one(
    broker, namespace
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s,2s", NOTIFIER_BREAKER__ATTEMPTS="4")
    async with (
        Simulator(default=Script.parse("500,ok")) as merchant,
        running(variables) as service,
        Producer(variables) as producer,
    ):
        early = await producer.send(["m"], merchant.url, 3)
        await service.several(3, "attempt", tier="2s", decision="complete")
        late = await producer.send(["m"], merchant.url, 3)
        await service.several(6, "attempt", tier="2s", decision="complete")
        assert len(merchant.received) == 2 * len(early + late)
        assert not [event for event in service.events if event["event"] in ("breaker", "held")]


async def test_who_fails_each_first_attempt_is_back_at_the_second_probe_however_much_is_new(broker, namespace) -> None:
    """That one is the oldest that is held, here a second attempt, and no new one of the many that come."""
    async with Simulator(default=Script.parse("500,ok")) as merchant:
        states, seconds = await _until_closed(broker, namespace, merchant.url, merchant.url)
    assert states == ["open", "half-open", "open", "half-open", "closed"]
    assert _PAUSE <= seconds < 2 * _PAUSE, "no pause between the two probes"


async def test_who_refuses_what_waits_longest_is_back_at_the_first_probe_where_others_are_new(
    broker, namespace
) -> None:
    """That one is a new one, and not the oldest that is held: that is what the merchant always refuses."""
    async with Simulator(default=Script.parse("500")) as refusing, Simulator() as merchant:
        states, seconds = await _until_closed(broker, namespace, refusing.url, merchant.url)
    assert states == ["open", "half-open", "closed"]
    assert _PAUSE <= seconds < 2 * _PAUSE


async def _until_closed(broker, namespace: str, first: str, then: str) -> tuple[list[str], float]:
    """What became of the breaker of a merchant, by four notifications to one address, and then many to another; and in
    how many seconds.
    """
    variables = environment(
        broker.url, namespace,
        NOTIFIER_LADDER="1s,2s", NOTIFIER_BREAKER__ATTEMPTS="4", NOTIFIER_BREAKER__PAUSE=str(_PAUSE),
    )  # fmt: skip
    async with running(variables, "--no-api", whole=True) as service, Producer(variables) as producer:
        await producer.send(["m"], first, 4)
        opened = await service.event("breaker", state="open", merchant="m")
        enough = asyncio.Event()
        traffic = asyncio.create_task(_new_ones(producer, then, enough))
        try:
            closed = await service.event("breaker", timeout=40, state="closed", merchant="m")
        finally:
            enough.set()
            await traffic
        told = service.events[service.events.index(opened) : service.events.index(closed) + 1]
        seconds = datetime.fromisoformat(closed["ts"]) - datetime.fromisoformat(opened["ts"])
        return [event["state"] for event in told if event["event"] == "breaker"], seconds.total_seconds()


async def _new_ones(producer: Producer, url: str, enough: asyncio.Event) -> None:
    """Twenty a second, or so."""
    while not enough.is_set():
        await producer.send(["m"], url, 2)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), 0.1)


async def test_a_hanging_merchant_holds_up_nobody_and_every_notification_is_accounted_for(broker, namespace) -> None:
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_PREFETCH="40", NOTIFIER_EGRESS__TIMEOUT="8"
    )
    async with (
        Simulator(default=Script.parse("timeout")) as hanging,
        Simulator(default=Script.parse("ok")) as healthy,
        running(variables) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        stuck = set(await producer.send(["hangs"], hanging.url, 200))
        well = set(await producer.send(["well"], healthy.url, 20))
        await service.settled(well)
        ended = {event["notification"] for event in service.events if event["event"] == "attempt"}
        assert not ended & stuck, "before the first that hangs was given up"
        (key,) = await until_keys(operator, "overflow/", 1)
        assert key["key"] == "overflow/1s/hangs"
        await service.settled({event["notification"] for event in service.events if event["event"] == "attempt"})
        held = {event["notification"] for event in service.events if event["event"] == "held"}
        held |= {event["notification"] for event in await service.several(200 - 20, "held", reason="no-room")}
        attempted = stuck - held
        assert 1 <= len(attempted) <= 20
        await service.settled(attempted)
        assert not well & held, "no healthy one is held"
