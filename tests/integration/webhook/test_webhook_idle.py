"""Merchants that talk on a connection when nothing was asked: it is closed at the first byte, in bounded memory."""

from __future__ import annotations

import asyncio

import pytest
from raw_merchant import a_merchant, a_notification, a_webhook, memory_below, raw_merchant, request

from notifier.webhook.wire import Wire

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#: Bytes that a flood goes on for at most, so that this test ends if nobody hangs up.
ENOUGH = 60_000_000


class Flood:
    """A merchant that answers once, waits until it is `loose`, and then says `flood` again and again.

    written: bytes of it that somebody took.
    """

    def __init__(self, answer: bytes, flood: bytes) -> None:
        self._answer, self._flood = answer, flood
        self.loose = asyncio.Event()
        self.written = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(self._answer)
        await self.loose.wait()
        while self.written < ENOUGH:
            writer.write(self._flood)
            await writer.drain()
            self.written += len(self._flood)
            await asyncio.sleep(0)  # drain alone does not yield while the kernel takes everything


@pytest.mark.parametrize(
    "flood",
    [
        ANSWER * 1000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50 + b"Content-Length: 0\r\n\r\n",
        b"\r\n" * 10_000,
        b"x" * 65_536,
    ],
    ids=["answers", "informational", "headers", "nothing", "nonsense"],
)
@pytest.mark.parametrize("answer", [ANSWER, b"HTTP/1.1 204 No Content\r\n\r\n"], ids=["200", "204"])
async def test_a_flood_on_an_idle_connection_ends_it_at_once(answer: bytes, flood: bytes) -> None:
    talk = Flood(answer, flood)
    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        with memory_below(4_000_000):
            talk.loose.set()
            await asyncio.wait_for(merchant.ended.wait(), 20)
        assert talk.written < ENOUGH
        talk.loose.clear()
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        assert merchant.connections == 2


async def test_a_flood_behind_an_answer_is_looked_at_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = 0
    feed = Wire.feed_data

    def counted(self: Wire, data: object, size: int = 0) -> None:
        nonlocal heads
        heads += 1
        feed(self, data, size)

    monkeypatch.setattr(Wire, "feed_data", counted)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(ANSWER * 100_000)
        await reader.read()

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).acknowledged
        await asyncio.wait_for(merchant.ended.wait(), 5)
    assert 1 <= heads <= 16_384 // len(ANSWER) + 1
