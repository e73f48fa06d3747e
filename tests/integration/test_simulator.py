"""The simulator as its clients meet it: answers as scripted, a truthful record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from notifier.domain.signature import Secret, sign
from notifier.simulator import Received, Script, SignatureState, Simulator

SECRET = Secret(b"a merchant's key of 24 byte")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as opened:
        yield opened


async def post(
    session: aiohttp.ClientSession, url: str, webhook_id: str = "ntf_1", body: bytes = b"{}", **headers: str
) -> tuple[int, str, dict[str, str]]:
    async with session.post(
        url, data=body, headers={"webhook-id": webhook_id, **headers}, allow_redirects=False
    ) as response:
        return response.status, await response.text(), dict(response.headers)


@pytest.mark.parametrize(
    ("word", "status", "body"),
    [
        ("ok", 200, "success"),
        ("ok-json", 200, '{"code": "SUCCESS"}'),
        ("wrong-body", 200, "fail"),
        ("redirect", 302, "elsewhere"),
        ("slow:0.05", 200, "success"),
        ("201", 201, "success"),
        ("204", 204, ""),
        ("304", 304, ""),
        ("404", 404, "404 Not Found"),
        ("410", 410, "410 Gone"),
        ("500", 500, "500 Internal Server Error"),
        ("599", 599, "599"),
    ],
)
async def test_each_word_is_answered_as_it_says(
    session: aiohttp.ClientSession, word: str, status: int, body: str
) -> None:
    async with Simulator(default=Script.parse(word)) as simulator:
        assert (await post(session, simulator.url + "/shop"))[:2] == (status, body)
        [received] = simulator.received
        assert (received.answer, received.status) == (word, status)


@pytest.mark.parametrize(("word", "seconds"), [("429", "1"), ("429:7", "7"), ("503:30", "30")])
async def test_429_and_503_say_when_to_come_again(session: aiohttp.ClientSession, word: str, seconds: str) -> None:
    async with Simulator(default=Script.parse(word)) as simulator:
        _, _, headers = await post(session, simulator.url)
        assert headers["Retry-After"] == seconds


async def test_huge_sends_64_mebibytes(session: aiohttp.ClientSession) -> None:
    async with Simulator(default=Script.parse("huge")) as simulator, session.post(simulator.url) as response:
        total = 0
        async for chunk in response.content.iter_any():
            total += len(chunk)
        assert total == 64 * 1024 * 1024


async def test_reset_is_a_reset_and_not_an_end_of_file() -> None:
    async with Simulator(default=Script.parse("reset")) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("word", ["timeout", "slow:60"])
async def test_what_hangs_is_recorded_at_once_and_ends_with_the_simulator(word: str) -> None:
    began = time.monotonic()
    async with Simulator(default=Script.parse(word)) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        [received] = await simulator.wait_for(1)
        assert received.path == "/late"
    assert await reader.read() == b""
    writer.close()
    assert time.monotonic() - began < 5


async def test_an_informational_status_is_sent_and_never_followed_by_an_answer() -> None:
    async with Simulator(default=Script.parse("103")) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert await reader.read() == b""
    writer.close()


async def test_a_script_advances_per_notification_and_path(session: aiohttp.ClientSession) -> None:
    scripts = {"/a": Script.parse("500,ok"), "/b": Script.parse("404,410")}
    async with Simulator(scripts, default=Script.parse("503")) as simulator:
        posts = [("/a", "n1"), ("/a", "n2"), ("/b", "n1"), ("/a", "n1"), ("/a", "n1"), ("/b", "n1"), ("/c", "n1")]
        statuses = [(await post(session, simulator.url + path, webhook_id))[0] for path, webhook_id in posts]
        assert statuses == [500, 500, 404, 200, 200, 410, 503]


async def test_a_wrong_signature_is_answered_401_and_uses_up_no_word(session: aiohttp.ClientSession) -> None:
    now = int(time.time())
    right = {"webhook-timestamp": str(now), "webhook-signature": sign([SECRET], "ntf_1", now, b"{}")}
    async with Simulator(default=Script.parse("ok,500"), secrets=[SECRET]) as simulator:
        wrong = [
            {},
            right | {"webhook-timestamp": "soon"},
            right | {"webhook-timestamp": str(now - 3600)},
            right | {"webhook-signature": "v1,bm8="},
            {"webhook-timestamp": str(now), "webhook-signature": sign([Secret(b"n" * 24)], "ntf_1", now, b"{}")},
        ]
        for headers in wrong:
            assert (await post(session, simulator.url, **headers))[0] == 401
        assert (await post(session, simulator.url, **right))[0] == 200
        assert (await post(session, simulator.url, body=b"{ }", **right))[0] == 401
        states = [received.signature for received in simulator.received]
        assert states == [SignatureState.INVALID] * 5 + [SignatureState.VALID, SignatureState.INVALID]
        assert "whole number" in simulator.received[1].fault


async def test_headers_that_are_no_utf_8_are_recorded_and_refused(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Simulator(secrets=[SECRET], log=log) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nwebhook-id: \xff\r\nwebhook-signature: v1,\xfe\r\n")
        writer.write(b"webhook-timestamp: %d\r\nContent-Length: 0\r\n\r\n" % time.time())
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
        writer.close()
    assert json.loads(log.read_text())["webhook-id"] == "\N{REPLACEMENT CHARACTER}"


async def test_the_log_holds_one_line_per_request_and_is_appended_to(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    log = tmp_path / "received.jsonl"
    before = time.time_ns() // 1_000_000
    for _ in range(2):
        async with Simulator(default=Script.parse("429:7"), log=log) as simulator:
            await post(session, simulator.url + "/shop?token=1", body="é".encode(), **{"notifier-attempt": "3"})
    after = time.time_ns() // 1_000_000
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 2
    assert all(before <= line.pop("ts") <= after for line in lines)
    assert lines[0] == {
        "path": "/shop",
        "webhook-id": "ntf_1",
        "attempt": 3,
        "bytes": 2,
        "sha256": hashlib.sha256("é".encode()).hexdigest(),
        "answer": "429:7",
        "status": 429,
        "signature": "unchecked",
    }


async def test_waiting_ends_with_the_request_that_meets_the_wish(session: aiohttp.ClientSession) -> None:
    async with Simulator() as simulator:
        waiting = asyncio.create_task(simulator.wait_for(lambda received: any(r.path == "/b" for r in received)))
        await post(session, simulator.url + "/a")
        assert not waiting.done()
        await post(session, simulator.url + "/b")
        assert [received.path for received in await waiting] == ["/a", "/b"]


async def test_waiting_in_vain_says_what_had_come(session: aiohttp.ClientSession) -> None:
    async with Simulator(default=Script.parse("500")) as simulator:
        await post(session, simulator.url + "/a", "ntf_7")
        with pytest.raises(TimeoutError, match=r"waited 0\.05 s, 1 requests came; the last ones: /a ntf_7 → 500"):
            await simulator.wait_for(2, timeout=0.05)


async def test_a_simulator_that_keeps_nothing_still_tells(session: aiohttp.ClientSession) -> None:
    told: list[Received] = []
    async with Simulator(keep=False, told=told.append) as simulator:
        await post(session, simulator.url)
        assert simulator.received == []
        assert [received.webhook_id for received in told] == ["ntf_1"]


async def test_starting_and_closing_twice_is_fine_and_a_taken_port_is_an_error() -> None:
    simulator = Simulator()
    await simulator.start()
    await simulator.start()
    with pytest.raises(OSError, match="address already in use"):
        await Simulator(port=simulator.port).start()
    await simulator.close()
    await simulator.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", simulator.port)) != 0
