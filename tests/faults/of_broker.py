"""Faults of the broker as a whole: it dies, ends and begins again, stands still, or raises an alarm."""

from __future__ import annotations

import asyncio
import time

from tests.faults.errors import DidNotBite
from tests.faults.fault import Strike
from tests.faults.field import Field
from tests.faults.verdict import Window

#: Seconds that it stands still, in turn: less and more than a connection without a heartbeat lasts.
STILL = (6.0, 25.0)
#: Seconds of an alarm.
ALARM = 4.0
_NO_MEMORY, _NO_DISK = ("set_vm_memory_high_watermark", "0"), ("set_disk_free_limit", "1000000GB")
_MEMORY, _DISK = ("set_vm_memory_high_watermark", "absolute", "2GB"), ("set_disk_free_limit", "50MB")


async def killed(field: Field, number: int) -> Window:
    """kill -9, and boot on the same data."""
    return await _away(field, graceful=False)


async def restarted(field: Field, number: int) -> Window:
    """rabbitmqctl stop, and boot."""
    return await _away(field, graceful=True)


async def _away(field: Field, *, graceful: bool) -> Window:
    lost = field.service.told("broker.lost")
    began = time.time() * 1000
    await (field.broker.end() if graceful else field.broker.kill())
    await field.service.until_told("broker.lost", lost)
    await field.broker.boot()
    ended = time.time() * 1000
    await reconnected(field)
    # no spans: there is no broker for all of it
    return Window(began, ended, time.time() * 1000, handing=not graceful)


async def stood_still(field: Field, number: int) -> Window:
    """SIGSTOP to the Erlang VM, SIGCONT after a while."""
    began, came = time.time() * 1000, len(field.receiver.arrivals)
    field.broker.stop_clock()
    try:
        await asyncio.sleep(STILL[number % len(STILL)])  # the length of the standstill is what is tested
        if any(arrival.moment > began + 1000 for arrival in field.receiver.arrivals[came:]):
            raise DidNotBite("deliveries went on while the broker stood still")
    finally:
        field.broker.start_clock()
    ended = time.time() * 1000
    await reconnected(field)
    # no spans: what is unconfirmed, or handed out and not settled, is so for all of it
    return Window(began, ended, time.time() * 1000)


def alarmed(raised: tuple[str, ...], lowered: tuple[str, ...]) -> Strike:
    """An alarm: the broker reads nothing more from connections that publish, until it ends."""

    async def strike(field: Field, number: int) -> Window:
        began = time.time() * 1000
        await field.broker.ctl(*raised)
        try:
            await asyncio.sleep(0.5)  # what was on its way is confirmed
            confirmed = _confirmed(field)
            await asyncio.sleep(ALARM)  # the length of the alarm is what is tested
            if _confirmed(field) > confirmed:
                raise DidNotBite("publishes were confirmed under the alarm")
        finally:
            await field.broker.ctl(*lowered)
        ended = time.time() * 1000
        await reconnected(field)
        # no spans: a publish under the alarm is in flight for all of it
        return Window(began, ended, time.time() * 1000)

    return strike


memory_alarm = alarmed(_NO_MEMORY, _MEMORY)
disk_alarm = alarmed(_NO_DISK, _DISK)


async def reconnected(field: Field) -> None:
    """Wait until the load's publishes are confirmed again."""
    began = time.time() * 1000
    async with asyncio.timeout(90):
        while not any((each.began or 0) > began and each.confirmed for each in field.load.sent[-500:]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def connections_lost(field: Field, began: float, ended: float) -> tuple[tuple[float, float], ...]:
    """The moments at which processes of the service lost connections, or gave them up, by what they told: spans."""
    lost = field.service.moments("broker.lost", "publish.forgotten", "publish.doubted", since=began)
    return tuple((moment, moment) for moment in lost if moment <= ended)


def _confirmed(field: Field) -> int:
    return sum(each.confirmed is not None for each in field.load.sent)
