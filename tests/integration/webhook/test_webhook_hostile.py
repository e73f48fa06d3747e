"""Merchants that break HTTP or never end: each attempt comes to a classified outcome, in bounded time and memory."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import socket
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from raw_merchant import (
    Talk,
    a_merchant,
    a_notification,
    a_webhook,
    memory_below,
    raw_merchant,
    request,
    saying,
    without_end,
)

from notifier.domain.acknowledgement import AckRule
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.sections import Egress
from notifier.webhook.wire import MOST_ANSWER, Wire

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b"0" * 5_000_000) * 10  # as one file of 50 MB to whoever unpacks it
HEAD = "the head of the answer is too large: "
BROKE_OFF = "answered 200, but {peer} broke off before the answer was complete"
UNANSWERED = "{peer} closed the connection before an answer"
NOT_HTTP = "the answer is not HTTP/1.1: "


def check_told(outcome: Outcome) -> None:
    """Every outcome's line is one line, short, and holds nothing of the url but its host."""
    assert outcome.detail
    assert len(outcome.detail) <= 240
    assert outcome.detail.isprintable()
    assert "secret" not in outcome.detail


@pytest.mark.parametrize(
    ("talk", "error", "detail"),
    [
        # heads without end
        (
            without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
            "too-large",
            "the head of the answer is over 32768 bytes",
        ),
        (without_end(b"", b"\r\n" * 1000), "too-large", "the head of the answer is over 32768 bytes"),
        (without_end(OK, b"A: b\r\n" * 1000), "too-large", HEAD + "too many headers received"),
        (without_end(OK + b"A: ", b"b" * 1000), "too-large", HEAD + "got more than 8190 bytes"),
        (without_end(OK, b"A" * 1000), "too-large", HEAD + "got more than 8190 bytes"),
        (without_end(b"HTTP/1.1 200 ", b"k" * 1000), "too-large", HEAD + "got more than 8190 bytes"),
        (saying(OK + b"A:\r\n" * 1000 + b"\r\n", then_hold=True), "too-large", HEAD + "too many headers received"),
        (
            saying(OK + (b"A: " + b"b" * 8000 + b"\r\n") * 90 + b"\r\n", then_hold=True),
            "too-large",
            "the head of the answer is over 32768 bytes",
        ),
        (
            without_end(b"", b"HTTP/1.1 103 Early Hints\r\n" + b"Link: <x>\r\n" * 90 + b"\r\n"),
            "too-large",
            "the head of the answer is over 32768 bytes",
        ),
        # what follows a body without end
        (
            without_end(CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 1000),
            "too-large",
            HEAD + "too many headers received",
        ),
        (without_end(CHUNKED + b"1\r\nx\r\n0\r\nA: ", b"b" * 9000), "too-large", HEAD + "got more than 8190 bytes"),
        # framing without end
        (without_end(CHUNKED, b"0" * 65_536), "too-large", "the framing of the answer is over 8388608 bytes"),
        (without_end(CHUNKED + b"1;", b"x" * 65_536), "too-large", "the framing of the answer is over 8388608 bytes"),
        # framing that is wrong
        (
            saying(CHUNKED + b"zz\r\n", then_hold=True),
            "wrong-answer",
            NOT_HTTP + "invalid character in chunk size: b'zz'",
        ),
        (saying(OK + b"Content-Length: -5\r\n\r\n", then_hold=True), "wrong-answer", NOT_HTTP),
        (saying(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", then_hold=True), "wrong-answer", NOT_HTTP),
        (
            saying(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), then_hold=True),
            "wrong-answer",
            NOT_HTTP,
        ),
        (
            saying(CHUNKED + b"f" * 17 + b"\r\nabc", then_hold=True),
            "wrong-answer",
            NOT_HTTP + "chunk size overflow",
        ),
        (
            saying(OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", then_hold=True),
            "wrong-answer",
            NOT_HTTP + "content-Length overflow",
        ),
        (saying(b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok", then_hold=True), "wrong-answer", NOT_HTTP),
        (saying(b"HTTP/1.1 +200 OK\r\n\r\n", then_hold=True), "wrong-answer", NOT_HTTP + "bad status line"),
        # something else than HTTP
        (saying(b"success"), "wrong-answer", NOT_HTTP + "bad status line"),  # HTTP/0.9
        (saying(b"\0\0\0\4\0\0\0\0\0", then_hold=True), "wrong-answer", NOT_HTTP),  # HTTP/2 settings
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n", then_hold=True), "wrong-answer", NOT_HTTP + "bad status line: "),
        (saying(b"\x15\x03\x03\x00\x02\x02\x46", then_hold=True), "wrong-answer", NOT_HTTP),  # a TLS alert
        (saying(b"HTTP/2 200\r\n\r\n", then_hold=True), "wrong-answer", NOT_HTTP),
        (saying(OK + b"A: b\0c\r\n\r\n", then_hold=True), "wrong-answer", NOT_HTTP),
        # connections that end early
        (saying(b""), "reset", UNANSWERED),
        (saying(b"HTTP/1.1 20"), "reset", UNANSWERED),
        (saying(OK + b"A: b\r\n"), "reset", UNANSWERED),
        (saying(OK + b"Content-Length: 10\r\n\r\nabc"), "reset", BROKE_OFF),
        (saying(CHUNKED + b"5\r\nabc"), "reset", BROKE_OFF),
        (saying(CHUNKED + b"3\r\nabc\r\n"), "reset", BROKE_OFF),
        # statuses that are none
        (
            saying(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
            "status",
            "answered 101 Switching Protocols",
        ),
        (
            without_end(b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"x" * 65_536),
            "status",
            "answered 101 Switching Protocols",
        ),
        (saying(b"HTTP/1.1 500 \x1b[31m\x07\xff\r\nContent-Length: 0\r\n\r\n"), "status", "answered 500 Internal"),
        (saying(b"HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n"), "status", "answered 999"),
        (saying(b"HTTP/1.1 000 x\r\nContent-Length: 0\r\n\r\n"), "status", "answered 0"),
    ],
)
async def test_broken_http_is_classified_at_once_and_in_bounded_memory(talk: Talk, error: str, detail: str) -> None:
    async with raw_merchant(talk) as merchant, a_webhook(timeout=30) as webhook:
        with memory_below(2_000_000):
            outcome = await webhook(a_notification(merchant.url), a_merchant())
        peer = f"127.0.0.1:{merchant.port}"
        assert (outcome.acknowledged, outcome.error, outcome.address) == (False, error, peer)
        assert outcome.detail.startswith(detail.format(peer=peer))
        assert outcome.duration < 5
        check_told(outcome)


async def test_a_body_that_turns_into_nonsense_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head_is_in = asyncio.Event()
    feed = Wire.feed_data

    def watched(self: Wire, data: object, size: int = 0) -> None:
        feed(self, data, size)
        head_is_in.set()

    monkeypatch.setattr(Wire, "feed_data", watched)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(CHUNKED + b"3\r\nabc\r\n")
        await head_is_in.wait()
        writer.write(b"zz\r\n")
        await reader.read()

    async with raw_merchant(talk) as merchant, a_webhook(timeout=30) as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant())
        assert (outcome.error, outcome.status, outcome.answer) == (ErrorClass.WRONG_ANSWER, 200, b"abc")
        assert outcome.duration < 5


@pytest.mark.parametrize(
    "talk",
    [
        saying(OK + b"\r\nsuccess"),  # the end of the connection is the end of the body
        saying(b"HTTP/1.0 200 OK\r\n\r\nsuccess"),
        saying(OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\nsuccess\r\n0\r\n\r\n", then_hold=True),
        saying(
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 7\r\n\r\nsuccess", then_hold=True
        ),
        saying(b"HTTP/1.1 207 \r\nContent-Length: 9\r\n\r\n success\n", then_hold=True),
    ],
)
async def test_unusual_but_valid_http_is_read(talk: Talk) -> None:
    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant(ack=AckRule.parse("body=success")))
        assert outcome.acknowledged, outcome.detail


@pytest.mark.parametrize(
    "talk",
    [
        without_end(OK + b"\r\n", b"x" * 65_536),
        without_end(OK + b"Content-Length: 999999999999\r\n\r\n", b"x" * 65_536),
        without_end(CHUNKED, b"1\r\nx\r\n" * 1000),
        saying(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(BOMB), BOMB)),
        saying(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BOMB), BOMB)),
        saying(OK + b"Content-Encoding: deflate, gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(BOMB), BOMB)),
        without_end(OK + b"Upgrade: x\r\nConnection: upgrade\r\n\r\n", b"x" * 65_536),
    ],
    ids=[
        "until the end",
        "by length",
        "in tiny chunks",
        "gzip bomb",
        "gzip bomb in transfer",
        "nested",
        "after an upgrade",
    ],
)
async def test_a_huge_body_is_read_up_to_the_limit_and_in_bounded_memory(talk: Talk) -> None:
    async with raw_merchant(talk) as merchant, a_webhook(timeout=30, answer_limit=4096) as webhook:
        with memory_below(2_000_000):
            outcome = await webhook(a_notification(merchant.url), a_merchant())
        assert outcome.acknowledged  # the status is the rule, and it was heard
        assert len(outcome.answer) == 4096
        assert outcome.duration < 5
        await asyncio.wait_for(merchant.ended.wait(), 5)  # the connection was closed, not drained


async def test_what_comes_compressed_is_kept_as_it_came() -> None:
    packed = gzip.compress(b"success" * 1000)
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(packed), packed)
    async with raw_merchant(saying(answer)) as merchant, a_webhook() as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant())
        assert outcome.answer == packed


@pytest.mark.parametrize(("count", "error"), [(100, None), (101, ErrorClass.TOO_LARGE)])
async def test_an_answer_has_a_hundred_headers_at_most(count: int, error: ErrorClass | None) -> None:
    answer = OK + b"A: b\r\n" * (count - 1) + b"Content-Length: 0\r\n\r\n"
    async with raw_merchant(saying(answer)) as merchant, a_webhook() as webhook:
        assert (await webhook(a_notification(merchant.url), a_merchant())).error is error


@pytest.mark.parametrize(
    ("talk", "status", "detail"),
    [
        (saying(b"", then_hold=True), None, "no answer within 0.3 s"),
        (saying(b"HTTP/1.1 200", then_hold=True), None, "no answer within 0.3 s"),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n", then_hold=True), None, "no answer within 0.3 s"),
        (
            saying(OK + b"Content-Length: 9\r\n\r\nsucc", then_hold=True),
            200,
            "answered 200, but not completely within 1.5 s",
        ),
    ],
)
async def test_a_merchant_that_hangs_costs_the_timeout_and_no_more(talk: Talk, status: int | None, detail: str) -> None:
    timeout = 1.5 if status else 0.3  # time for the head that is to be seen, on a busy machine
    async with raw_merchant(talk) as merchant, a_webhook(timeout=timeout) as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant())
        assert (outcome.error, outcome.status, outcome.detail) == (ErrorClass.TIMEOUT, status, detail)
        assert timeout - 0.001 <= outcome.duration < timeout + 2
        await asyncio.wait_for(merchant.ended.wait(), 5)


@pytest.mark.parametrize(
    ("beginning", "drop", "status"),
    [
        (OK + b"Content-Length: 1000\r\n\r\n", b"x", 200),
        (OK + b"\r\n", b"x", 200),
        (CHUNKED + b"1;", b"x", 200),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n", 200),
        (OK, b"A", None),
        (b"", b"\r\n", None),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", None),
    ],
    ids=["body", "body until the end", "extension", "trailer", "header", "nothing", "informational"],
)
async def test_a_merchant_that_drips_costs_the_timeout_and_no_more(
    beginning: bytes, drop: bytes, status: int | None
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(beginning)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.02)  # dripping is what is tested

    timeout = 1.5 if status else 0.25  # time for the head that is to be seen, on a busy machine
    async with raw_merchant(talk) as merchant, a_webhook(timeout=timeout) as webhook:
        outcome = await webhook(a_notification(merchant.url), a_merchant())
        assert (outcome.error, outcome.status) == (ErrorClass.TIMEOUT, status)
        assert outcome.answer.strip(b"x") == b""
        assert len(outcome.answer) < 1000
        assert timeout - 0.001 <= outcome.duration < timeout + 2
        await asyncio.wait_for(merchant.ended.wait(), 5)


async def test_a_merchant_that_never_reads_costs_the_timeout_and_no_more() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await asyncio.Event().wait()

    async with raw_merchant(talk) as merchant, a_webhook(timeout=0.5) as webhook:
        outcome = await webhook(a_notification(merchant.url, payload=b"x" * 16_000_000), a_merchant())
        assert (outcome.error, outcome.detail) == (ErrorClass.TIMEOUT, "no answer within 0.5 s")
        assert outcome.duration < 2


async def test_an_answer_before_the_payload_was_taken_counts() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with raw_merchant(talk) as merchant, a_webhook() as webhook:
        outcome = await webhook(a_notification(merchant.url, payload=b"x" * 16_000_000), a_merchant())
        assert outcome.status == 413


async def test_a_merchant_that_takes_no_connections_costs_the_connecting_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # one waits in the queue; the kernel leaves further ones without an answer
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        address = f"127.0.0.1:{full.getsockname()[1]}"
        async with a_webhook(timeout=30, connect_timeout=0.3) as webhook:
            outcome = await webhook(a_notification(f"http://{address}/"), a_merchant())
        for filler in fillers:
            filler.close()
    assert (outcome.error, outcome.detail) == (ErrorClass.TIMEOUT, f"no connection to {address} within 0.3 s")
    assert outcome.address is None
    assert 0.299 <= outcome.duration < 2


async def test_a_refused_connection_names_the_address() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        async with a_webhook() as webhook:
            outcome = await webhook(a_notification(f"http://{address}/"), a_merchant())
    assert (outcome.error, outcome.detail) == (ErrorClass.CONNECT, f"connection refused by {address}")
    assert outcome.address is None


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (errno.EHOSTUNREACH, "no route to 127.0.0.1:9"),
        (errno.ENETUNREACH, "no route to 127.0.0.1:9"),
        (errno.EACCES, "cannot connect to 127.0.0.1:9: permission denied"),
    ],
)
async def test_what_the_kernel_says_about_an_address_is_told(
    monkeypatch: pytest.MonkeyPatch, number: int, detail: str
) -> None:
    async def start_connection(*_: object, socket_factory: Callable[[object], socket.socket], **__: object) -> None:
        socket_factory((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 9))).close()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("aiohappyeyeballs.start_connection", start_connection)
    async with a_webhook() as webhook:
        outcome = await webhook(a_notification("http://127.0.0.1:9/"), a_merchant())
    assert (outcome.error, outcome.detail, outcome.ours) == (ErrorClass.CONNECT, detail, False)


async def test_running_out_of_descriptors_is_told_as_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(**_: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("notifier.webhook.guard.socket", SimpleNamespace(socket=exhausted))
    async with a_webhook() as webhook:
        outcome = await webhook(a_notification("http://127.0.0.1:9/"), a_merchant())
    assert outcome.error is ErrorClass.CONNECT
    assert outcome.detail == "notifier itself has no file descriptor left: raise `ulimit -n`"
    assert outcome.ours


def test_the_settings_promise_what_the_bounds_can_hold() -> None:
    """MOST_ANSWER leaves room for the largest answer_limit in chunks of one byte, six bytes on the wire each."""
    largest = Egress.model_json_schema()["properties"]["answer_limit"]["maximum"]
    assert largest * 6 < MOST_ANSWER
