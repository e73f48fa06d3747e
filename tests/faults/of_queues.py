"""Faults of single objects on the broker: a queue at its limit or deleted, consumers cancelled, channels closed."""

from __future__ import annotations

import asyncio
import json
import time

from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.of_broker import reconnected
from tests.faults.verdict import Window, outstanding

#: Seconds of a length limit.
_LIMITED = 3.0
#: Refused enqueues that show that the limit is in force.
_MANY_REFUSED = 10
#: Milliseconds after which the broker closes the channel of a consumer that does not acknowledge; of its looks at that.
_CONSUMER_TIMEOUT, _TICK = 1500, 500
_TIMED_OUT = "timed out"
#: Times that an exchange is deleted until the service meets it.
_TRIES = 10
_HALF_AN_HOUR, _MINUTE = 1_800_000, 60_000


async def wait_queues_at_their_limit(field: Field, number: int) -> Window:
    """A policy bounds the wait queues, so that enqueues and republishes are refused."""
    refused, began = field.load.refused, time.time() * 1000
    pattern = rf"^{field.namespace}\.wait\."
    await field.broker.ctl("set_policy", "limit", pattern, json.dumps({"max-length": 1}), "--apply-to", "queues")
    try:
        async with asyncio.timeout(30):
            while field.load.refused < refused + _MANY_REFUSED:  # noqa: ASYNC110  the load tells nobody
                await asyncio.sleep(0.02)
        await asyncio.sleep(_LIMITED)  # the length of the limit is what is tested
    except TimeoutError:
        raise DidNotBite("no enqueue was refused at the limit") from None
    finally:
        await field.broker.ctl("clear_policy", "limit")
    ended = time.time() * 1000
    # no spans: what is refused is tried again for all of it
    return Window(began, ended, ended)


async def work_queue_deleted(field: Field, number: int) -> Window:
    """The first tier's work queue is deleted while callbacks of it run. A queue takes along what lies in it, so
    nothing is due at that moment: what is in the process's hands must survive, and what becomes due right after.
    """
    cancelled = field.service.told("broker.cancelled")
    async with field.load.halted():
        await _all_came(field)
        await field.load.burst(["hang"] * 20)
        came = len(field.receiver.arrivals)
        await field.receiver.until(
            lambda: len(field.receiver.arrivals) >= came + 20, 30, "the hanging ones were called"
        )
        began = time.time() * 1000
        await field.broker.ctl("delete_queue", f"{field.namespace}.work.1s")
        await field.load.burst(["prompt"] * 50)
        await field.service.until_told("broker.cancelled", cancelled)
        field.receiver.let_go()
    await reconnected(field)
    ended = time.time() * 1000
    return Window(began, ended, ended)


async def consumers_cancelled(field: Field, number: int) -> Window:
    """Every consumer is told `basic.cancel`."""
    assert field.line is not None
    cancelled, told, began = field.service.told("broker.cancelled"), field.line.cancelled, time.time() * 1000
    field.line.cancel_consumers()
    await field.service.until_told("broker.cancelled", cancelled + 1)  # both tiers; and the agent's, when facts come
    if field.line.cancelled < told + 2:
        raise DidNotBite("the line told fewer than two consumers")
    await reconnected(field)
    ended = time.time() * 1000
    return Window(began, ended, ended)


async def exchange_deleted(field: Field, number: int) -> Window:
    """The wait exchange is deleted: the broker closes the channel of everyone who publishes to it (404). Whoever meets
    that first declares it again; where that was the load, which is no service, it is deleted once more.
    """
    lost, began = field.service.told("broker.lost"), time.time() * 1000
    for tries_left in reversed(range(_TRIES)):
        await field.broker.ctl(
            "eval",
            f'rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"{field.namespace}.wait">>), false, <<"f">>).',
        )
        try:
            await field.service.until_told("broker.lost", lost, timeout=3)
            break
        except DidNotBite:
            if not tries_left:
                raise
    await reconnected(field)
    ended = time.time() * 1000
    return Window(began, ended, ended)


async def consumer_timeout(field: Field, number: int) -> Window:
    """Callbacks that hang for longer than the broker waits for an acknowledgement: it closes the consumer's channel.

    Connections are lost when its patience is set, at first and at the end, and when it is over.
    """
    began = time.time() * 1000
    timed_out = field.service.told("broker.lost", _TIMED_OUT)
    await _patience(field, _CONSUMER_TIMEOUT, _TICK)
    impatient = time.time() * 1000
    try:
        await field.load.burst(["hang"] * 5)
        await field.service.until_told("broker.lost", timed_out, saying=_TIMED_OUT)
        over = time.time() * 1000
    finally:
        await _patience(field, _HALF_AN_HOUR, _MINUTE)
        field.receiver.let_go()
    await reconnected(field)
    ended = time.time() * 1000
    return Window(began, ended, ended, spans=((began, impatient), (over, ended)))


async def _patience(field: Field, timeout: int, tick: int) -> None:
    """Of the broker with consumers. Channels take it when they are opened, so all connections are ended."""
    await field.broker.ctl(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick}), "
        '[rabbit_networking:close_connection(Pid, <<"faults">>) || Pid <- rabbit_networking:connections()].',
    )
    await reconnected(field)


async def _all_came(field: Field) -> None:
    """Wait until nothing that was handed in is on its way."""
    await field.receiver.until(lambda: not outstanding(field.load.sent, field.receiver.arrivals), 60, "all had arrived")
