"""Faults of the network to the broker."""

from __future__ import annotations

import asyncio
import time

from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.line import BrokerLine
from tests.faults.of_broker import reconnected
from tests.faults.verdict import Window

#: Seconds of slowness, seconds for each piece of at most so many bytes while it lasts.
_SLOW, _PAUSE, _PIECE = 5.0, 0.15, 4096
#: Milliseconds in which merchants are called with what had been delivered when a line froze.
_DELIVERED = 1000.0


async def reset(field: Field, number: int) -> Window:
    """RST on every connection."""
    line, lost, began = _line(field), field.service.told("broker.lost"), time.time() * 1000
    if line.reset() < 3:
        raise DidNotBite("there were no connections to reset")
    return await _lost(field, lost, began, time.time() * 1000)


async def half_open(field: Field, number: int) -> Window:
    """Nothing arrives any more in either direction, and nothing is closed; connections made later work.

    What can come twice was on its way when the lines froze. What was published on a frozen line never reaches the
    broker, so its repetition, when the connection is known to be lost, is the only one; and nothing is delivered by it.
    """
    line, lost, began = _line(field), field.service.told("broker.lost"), time.time() * 1000
    line.upward.clear()
    line.downward.clear()
    line.thaw_for_new_connections()
    return await _lost(field, lost, began, began + _DELIVERED)


async def slow(field: Field, number: int) -> Window:
    """Each piece of the stream takes its time."""
    line, began = _line(field), time.time() * 1000
    line.pause, line.slice = _PAUSE, _PIECE
    try:
        await asyncio.sleep(_SLOW)  # the length of the slowness is what is tested
        if field.load.unconfirmed < 10:
            raise DidNotBite(f"only {field.load.unconfirmed} publishes waited on a slow line")
    finally:
        line.pause, line.slice = 0.0, 65_536
    ended = time.time() * 1000
    await reconnected(field)
    # no spans: what is on the line is so for all of it
    return Window(began, ended, time.time() * 1000)


async def cut_inside_a_publish(field: Field, number: int) -> Window:
    """Half of a publish reaches the broker."""
    line, lost, began = _line(field), field.service.told("broker.lost"), time.time() * 1000
    async with asyncio.timeout(20):
        await line.cut_inside_a_publish()
    return await _lost(field, lost, began, time.time() * 1000)


async def cut_before_a_confirm(field: Field, number: int) -> Window:
    """The broker has taken publishes, and their confirms never arrive."""
    line, lost, began = _line(field), field.service.told("broker.lost"), time.time() * 1000
    async with asyncio.timeout(20):
        await line.cut_before_a_confirm()
    return await _lost(field, lost, began, time.time() * 1000)


async def _lost(field: Field, lost: int, began: float, struck: float) -> Window:
    """It bit when a process says that it lost its connection; from then on another one is made. struck: when the lines
    were as broken as they would be: what is sent on new ones is not in flight at the fault.
    """
    await field.service.until_told("broker.lost", lost, timeout=60)
    await reconnected(field)
    ended = time.time() * 1000
    return Window(began, ended, ended, spans=((began, min(struck, ended)),))


def _line(field: Field) -> BrokerLine:
    assert field.line is not None
    return field.line
