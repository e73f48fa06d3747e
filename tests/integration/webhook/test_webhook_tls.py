"""TLS to merchants: verified against the system's authorities, by name, and never hanging."""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
import warnings
from pathlib import Path

import pytest
from raw_merchant import (
    Names,
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

from notifier.domain.outcome import ErrorClass

HERE = Path(__file__).parent / "certificates"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsuccess"
NAMES = Names({"merchant.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})


@pytest.fixture
def servers_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "merchant.test.crt", HERE / "merchant.test.key")
    return context


@pytest.fixture
def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(HERE / "merchant.test.crt"))


async def test_a_certificate_of_a_trusted_authority_for_the_right_name_is_accepted(
    servers_side: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(OK)

    async with raw_merchant(talk, servers_side) as merchant, a_webhook(resolver=NAMES, tls=trusting) as webhook:
        for _ in range(2):
            outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
            assert outcome.acknowledged, outcome.detail
            assert outcome.address == f"127.0.0.1:{merchant.port}"
        assert merchant.connections == 1


async def test_a_certificate_that_nobody_vouches_for_is_refused(servers_side: ssl.SSLContext) -> None:
    async with raw_merchant(saying(OK), servers_side) as merchant, a_webhook(resolver=NAMES) as webhook:
        outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail == "certificate of merchant.test is not valid: self-signed certificate"


async def test_a_certificate_for_another_name_is_refused(
    servers_side: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with (
        raw_merchant(saying(OK), servers_side) as merchant,
        a_webhook(resolver=NAMES, tls=trusting) as webhook,
    ):
        outcome = await webhook(a_notification(f"https://other.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail.startswith("certificate of other.test is not valid: Hostname mismatch")


async def test_a_certificate_that_has_expired_is_refused() -> None:
    expired = HERE / "merchant.test.expired.crt"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(expired, HERE / "merchant.test.key")
    trusting = ssl.create_default_context(cafile=str(expired))
    async with raw_merchant(saying(OK), context) as merchant, a_webhook(resolver=NAMES, tls=trusting) as webhook:
        outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail == "certificate of merchant.test is not valid: certificate has expired"


async def test_a_certificate_for_a_name_does_not_serve_an_address(
    servers_side: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with raw_merchant(saying(OK), servers_side) as merchant, a_webhook(tls=trusting) as webhook:
        outcome = await webhook(a_notification(f"https://127.0.0.1:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail.startswith("certificate of 127.0.0.1 is not valid: IP address mismatch")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
async def test_a_merchant_that_speaks_only_an_old_protocol_is_a_tls_failure(
    servers_side: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # what is old is the point
        servers_side.minimum_version = version
        servers_side.maximum_version = version
    servers_side.set_ciphers("ALL:@SECLEVEL=0")
    async with raw_merchant(saying(OK), servers_side) as merchant, a_webhook(resolver=NAMES) as webhook:
        outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail.startswith(f"TLS with 127.0.0.1:{merchant.port} failed: ")
        assert "certificate" not in outcome.detail  # it does not come as far as that


# Handshakes by hand: records (RFC 8446 §5.1) and what stands in them


def record(kind: int, content: bytes, version: int = 0x0303) -> bytes:
    return struct.pack(">BHH", kind, version, len(content)) + content


def handshake(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([kind]) + struct.pack(">I", len(body) if length is None else length)[1:] + body


def server_hello(version: int) -> bytes:
    body = struct.pack(">H", version) + b"\x11" * 32 + b"\0" + b"\xc0\x2f" + b"\0" + b"\x00\x05\xff\x01\x00\x01\x00"
    return record(22, handshake(2, body), min(version, 0x0303))


def shaking(beginning: bytes, more: bytes = b"") -> Talk:
    """Waits for the greeting, says `beginning`, then `more` without end; without `more` holds the connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(beginning)
        while more:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0)  # drain alone does not yield while the kernel takes everything
        await reader.read()
        await asyncio.Event().wait()

    return talk


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (shaking(server_hello(0x0302)), "unsupported protocol"),  # TLS 1.1
        (shaking(server_hello(0x0300)), "unsupported protocol"),  # SSL 3
        (shaking(record(21, b"\2\x46")), "tlsv1 alert protocol version"),
        (shaking(record(21, b"\2\x28")), "sslv3 alert handshake failure"),
        (shaking(record(21, b"\2\xff")), "unknown error"),
        (shaking(record(21, b"\1\0")), "tls/ssl connection has been closed (eof)"),
        (shaking(b"", b"x" * 65_536), "wrong version number"),
        (shaking(struct.pack(">BHH", 22, 0x0303, 0xFFFF), b"x" * 65_536), ""),
        (shaking(b"", record(20, b"\1") * 1000), ""),
        (shaking(server_hello(0x0303), record(22, b"") * 1000), ""),
        (
            shaking(
                server_hello(0x0303) + record(22, handshake(11, b"x" * 16_000, 0xFFFFFF)), record(22, b"x" * 16_000)
            ),
            "",
        ),
    ],
    ids=[
        "TLS 1.1",
        "SSL 3",
        "alert 70",
        "alert 40",
        "no alert there is",
        "closing",
        "nonsense",
        "record over the bound",
        "change cipher without end",
        "empty records without end",
        "certificate without end",
    ],
)
async def test_a_hostile_handshake_is_a_tls_failure_at_once_and_in_bounded_memory(talk: Talk, why: str) -> None:
    async with raw_merchant(talk) as merchant, a_webhook(resolver=NAMES, timeout=30, connect_timeout=20) as webhook:
        with memory_below(2_000_000):
            outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail.startswith(f"TLS with 127.0.0.1:{merchant.port} failed: {why}")  # the rest is OpenSSL's
        assert os.strerror(1).lower() not in outcome.detail  # its numbers are not the kernel's
        assert outcome.duration < 5


@pytest.mark.parametrize(
    "talk",
    [
        shaking(server_hello(0x0303)[:20]),
        shaking(server_hello(0x0303)),
        shaking(b"", record(22, handshake(0, b"")) * 10),  # requests to begin again, which a client passes over
    ],
    ids=["half a greeting", "a greeting alone", "requests to begin without end"],
)
async def test_a_handshake_that_never_ends_costs_the_connecting_timeout_in_bounded_memory(talk: Talk) -> None:
    async with raw_merchant(talk) as merchant, a_webhook(resolver=NAMES, timeout=30, connect_timeout=0.3) as webhook:
        with memory_below(2_000_000):
            outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TIMEOUT
        assert outcome.detail == f"no connection to 127.0.0.1:{merchant.port} within 0.3 s"
        assert 0.299 <= outcome.duration < 2


@pytest.mark.parametrize(
    ("talk", "error", "detail"),
    [
        (without_end(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), None, "answered 200"),
        (
            without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
            "too-large",
            "the head of the answer is over 32768 bytes",
        ),
        (
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsucc", then_hold=True),
            "timeout",
            "answered 200, but not completely within 3.0 s",
        ),
    ],
    ids=["body without end", "head without end", "half a body"],
)
async def test_a_hostile_answer_over_tls_is_bounded_as_without(
    servers_side: ssl.SSLContext, trusting: ssl.SSLContext, talk: Talk, error: str | None, detail: str
) -> None:
    async with (
        raw_merchant(talk, servers_side) as merchant,
        a_webhook(resolver=NAMES, tls=trusting, timeout=3) as webhook,
    ):
        with memory_below(4_000_000):
            outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert (outcome.error, outcome.detail) == (error, detail)
        await asyncio.wait_for(merchant.ended.wait(), 5)


def sockets() -> int:
    """How many this process has open; event loops open other descriptors when they like."""
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.islink(link))


async def test_no_socket_is_left_behind_by_handshakes_that_stall_or_fail() -> None:
    before = sockets()
    async with a_webhook(resolver=NAMES, connect_timeout=0.2) as webhook:
        for talk in (shaking(b""), shaking(b"nonsense" * 1000), saying(b"")):
            async with raw_merchant(talk) as merchant:
                url = f"https://merchant.test:{merchant.port}/"
                outcomes = await asyncio.gather(*(webhook(a_notification(url), a_merchant()) for _ in range(20)))
                assert all(outcome.error in (ErrorClass.TIMEOUT, ErrorClass.TLS) for outcome in outcomes)
    async with asyncio.timeout(5):
        while sockets() > before:  # noqa: ASYNC110  # nobody tells when one is gone
            await asyncio.sleep(0)


async def test_a_merchant_without_tls_on_that_port_is_a_tls_failure() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_merchant(talk) as merchant, a_webhook(resolver=NAMES) as webhook:
        outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail == f"TLS with 127.0.0.1:{merchant.port} failed: wrong version number"


@pytest.mark.parametrize("manner", ["close", "abort"])
async def test_a_connection_that_breaks_during_the_handshake_is_a_tls_failure(manner: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if manner == "abort":  # something of the greeting is left unread, so the kernel sends a reset
            writer.transport.abort()

    async with raw_merchant(talk) as merchant, a_webhook(resolver=NAMES) as webhook:
        outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TLS
        assert outcome.detail == (
            f"TLS with 127.0.0.1:{merchant.port} failed: the connection broke during the handshake"
        )


async def test_a_handshake_that_stalls_costs_the_connecting_timeout() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    async with (
        raw_merchant(talk) as merchant,
        a_webhook(resolver=NAMES, timeout=30, connect_timeout=0.3) as webhook,
    ):
        outcome = await webhook(a_notification(f"https://merchant.test:{merchant.port}/"), a_merchant())
        assert outcome.error is ErrorClass.TIMEOUT
        assert outcome.detail == f"no connection to 127.0.0.1:{merchant.port} within 0.3 s"
        assert 0.299 <= outcome.duration < 2
