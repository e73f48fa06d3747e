"""Faults that lie in the messages: what cannot be read, and what kills the process that works on it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from notifier.broker import poison
from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.load import KINDS, Wanted
from tests.faults.service import TIERS
from tests.faults.verdict import Arrival, Sent, Window

#: Seconds until what cannot be worked on must be in the poison queue, and for which a killer's tier may stand still on
#: the way there.
FOUND, OUTAGE = 60.0, 15.0
#: In flight beside a killer; and how many of them surely: some may have been called before the killer.
BESIDE, SURELY = 500, 450
#: Milliseconds without a first attempt from which on its tier stands still, under a few hundred notifications a second.
STILL = 1000.0
#: Milliseconds in which the master has told of the end of a process.
_TOLD = 1000.0
_KILLED = frozenset({"poisoned"})
_BODY = b'{"key": "poison"}'


def unreadable(url: str) -> list[tuple[Mapping[str, Any], bytes, str]]:
    """Headers, body, and what the reason must say, of messages that no notifier can work on."""
    good = {"merchant": "m", "url": f"{url}/prompt/m"}
    return [
        ({}, _BODY, "'merchant' is missing"),
        ({**good, "merchant": ""}, _BODY, "is not a merchant id"),
        ({**good, "merchant": True}, _BODY, "'merchant' must be UTF-8 text"),
        ({**good, "merchant": ["m"]}, _BODY, "'merchant' must be UTF-8 text"),
        ({**good, "url": {"is": "no text"}}, _BODY, "url"),
        ({**good, "url": "ftp://shop.example/"}, _BODY, "https://"),
        ({**good, "notification": "with blanks"}, _BODY, "notification"),
        ({**good, "ladder": "soon"}, _BODY, "ladder"),
        ({**good, "ladder": True}, _BODY, "ladder"),
        ({**good, "step": "two"}, _BODY, "'step' must be a whole number"),
        ({**good, "attempt": -1}, _BODY, "'attempt' must be a whole number"),
        ({**good, "run": 1.5}, _BODY, "'run' must be a whole number"),
        ({**good, "v": 99}, _BODY, "wire version"),
        ({**good, "merchant": "m\x00\n"}, _BODY, "is not a merchant id"),
        (good, os.urandom(300_000), "the body holds 300000 bytes"),
    ]


async def cannot_be_read(field: Field, number: int) -> Window:
    """Foreign producers enqueue what no notifier can read; each ends in the poison queue with its reason, the last one
    within `FOUND` seconds of the first publish.
    """
    began, messages = time.time() * 1000, unreadable(field.receiver.url)
    async with _channel(field) as channel:
        exchange = await channel.get_exchange(f"{field.namespace}.wait")
        for at, (headers, body, _) in enumerate(messages):
            message = aio_pika.Message(body, headers=dict(headers), message_id=f"bad-{number}-{at}", delivery_mode=2)
            await exchange.publish(message, routing_key="1s")
        found = await _buried(field, channel, len(messages))
    took = time.time() - began / 1000
    if took > FOUND:
        raise AssertionError(f"what cannot be read was in the poison queue after {took:.1f} s")
    reasons = {message.correlation_id: str(message.headers[poison.REASON]) for message in found}
    for at, (_, _, reason) in enumerate(messages):
        said = reasons.pop(f"bad-{number}-{at}", "it is not there")
        if reason not in said:
            raise AssertionError(f"message {at} is in the poison queue because {said!r}, not {reason!r}")
    if reasons:
        raise AssertionError(f"innocent ones are in the poison queue: {reasons}")
    return Window(began, began, began)


async def killer(field: Field, number: int) -> Window:
    """The look-up of a merchant's host kills the process, with 500 others in flight beside it.

    Asserted: of those 500, at least `SURELY` were in flight at one of the deaths (accepted before it, and called with
    the attempt that they need only after it); the process died three times; the killer was in the poison queue within
    `FOUND` seconds; and its tier stood still for no more than `OUTAGE` of them. That nothing else is in the poison
    queue is for the verdict. How many of the 500 a process had in its hands when it died is not asserted: its prefetch
    bounds that, and the rest waits in the queue.
    """
    assert field.around.world is not None
    slot = TIERS[0]
    if number:  # with a budget of restarts that no killer before it has used up
        await field.service.operator.ask("restart", {"to": slot}, timeout=FOUND)
        await field.calm()
    standing = await field.service.until(slot, state="ready")
    field.around.world.name(killer="kill")
    kinds = list(KINDS) * (BESIDE // len(KINDS) + 1)
    port = field.receiver.url.rpartition(":")[2]
    fatal = Wanted("killer", "killer", f"http://killer.test:{port}/prompt/killer", 0, _KILLED)
    began = time.time() * 1000
    beside = asyncio.create_task(field.load.burst(kinds[: BESIDE // 2]))
    (killing,) = await field.load.send([fatal])
    halves = await asyncio.gather(beside, field.load.burst(kinds[BESIDE // 2 : BESIDE]))
    async with _channel(field) as channel:
        (message,) = await _buried(field, channel, 1)
    ended = time.time() * 1000
    _is_the_killer(message, killing.id)
    after = await field.service.until(slot, state="ready")
    if after["epoch"] < standing["epoch"] + 3:
        raise DidNotBite(f"{slot} died {after['epoch'] - standing['epoch']} times, and the killer is in poison")
    deaths = [died for died in field.service.moments("child.ended", since=began, slot=slot) if died <= ended]
    many = in_flight(deaths, [each for half in halves for each in half], field.receiver.arrivals)
    if many < SURELY:
        raise DidNotBite(f"only {many} of {BESIDE} were in flight beside the killer when its process died")
    still = standstill([arrival.moment for arrival in field.receiver.arrivals if arrival.attempt == 1], began, ended)
    print(
        f"    the killer was in poison after {(ended - began) / 1000:.1f} s and {after['epoch'] - standing['epoch']} "
        f"deaths, its tier stood still for {still / 1000:.1f} s, {many} were in flight beside it",
        flush=True,
    )
    if ended - began > 1000 * FOUND or still > 1000 * OUTAGE:
        raise AssertionError(
            f"a killer was in poison after {(ended - began) / 1000:.1f} s, its tier stood still {still / 1000:.1f} s"
        )
    # a dead process has nothing in hand, and who is started again has what it takes from then on
    return Window(began, ended, ended, spans=tuple((max(began, died - _TOLD), died) for died in deaths))


def in_flight(deaths: Sequence[float], beside: Sequence[Sent], arrivals: Sequence[Arrival]) -> int:
    """How many of these were accepted before one of the deaths, and called with the attempt that they need after it."""
    needed = {each.id: each.attempts for each in beside}
    called: dict[str, float] = {}
    for arrival in arrivals:
        if arrival.attempt == needed.get(arrival.id):
            called[arrival.id] = min(arrival.moment, called.get(arrival.id, arrival.moment))
    return sum(
        any(each.confirmed <= died < called.get(each.id, float("inf")) for died in deaths)
        for each in beside
        if each.confirmed is not None
    )


def standstill(moments: list[float], began: float, ended: float) -> float:
    """Milliseconds, in total, in which nothing came between two moments. moments: in their order."""
    within = [began, *(moment for moment in sorted(moments) if began <= moment <= ended), ended]
    gaps = (after - before for before, after in itertools.pairwise(within))
    return sum(gap for gap in gaps if gap > STILL)


def _is_the_killer(message: AbstractIncomingMessage, name: str) -> None:
    said = str(message.headers[poison.REASON])
    if message.headers.get("notification") != name or "died 3 times" not in said:
        raise AssertionError(f"{message.headers.get('notification')!r} is in the poison queue: {said}")
    if json.loads(message.body) != {"key": name}:
        raise AssertionError("the killer's payload is not as it came")


@asynccontextmanager
async def _channel(field: Field) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(field.broker.url.split(",")[0]) as connection:
        yield await connection.channel()


async def _buried(field: Field, channel: AbstractChannel, count: int) -> list[AbstractIncomingMessage]:
    """What is in the poison queue, taken out of it, as soon as so many are."""
    queue = await channel.get_queue(f"{field.namespace}.poison", ensure=False)
    found: list[AbstractIncomingMessage] = []
    try:
        async with asyncio.timeout(FOUND + 30):
            while len(found) < count:
                message = await queue.get(fail=False)
                if message is None:
                    await asyncio.sleep(0.1)
                else:
                    found.append(message)
                    await message.ack()
    except TimeoutError:
        raise AssertionError(f"{len(found)} of {count} were in the poison queue in time") from None
    return found
