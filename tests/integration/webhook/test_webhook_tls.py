"""TLS to merchants: verified against the system's authorities, by name, and never hanging."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from raw_merchant import Names, a_merchant, a_notification, a_webhook, raw_merchant, request, saying

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
