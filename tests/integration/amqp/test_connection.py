"""Getting a connection and keeping it: several addresses, refusals, and what is told to people."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiormq.channel import Channel
from proxy import Proxy

from notifier.broker.connection import Link, open_once
from notifier.errors import BrokerUnreachable, ConfigurationError

CERTIFICATES = Path(__file__).parents[1] / "webhook" / "certificates"


async def nothing(_: Channel) -> None:
    return None


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"amqp://guest:hush@127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """An address that takes connections and never says a word."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        yield f"amqp://guest:hush@127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def with_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port}").geturl()


async def test_addresses_are_tried_in_turn_and_a_dead_first_one_costs_nothing(broker, dead: str) -> None:
    async with asyncio.timeout(8):
        link = await open_once([dead, broker.url], "test", patience=60)
    assert not (await link.channel()).is_closed
    await link.close()


async def test_a_silent_first_address_leaves_time_for_the_second(broker, silent: str) -> None:
    async with asyncio.timeout(7.5):  # half of it, and what the second takes
        link = await open_once([silent, broker.url], "test", patience=8)
    assert not (await link.channel()).is_closed
    await link.close()


async def test_an_unreachable_broker_is_named_with_address_and_time_and_without_password(dead: str) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable) as unreachable:
        await open_once([dead, dead.replace("hush", "hush2")], "test", patience=0.6)
    said = str(unreachable.value)
    assert 0.6 <= time.monotonic() - began < 15
    assert re.match(r"RabbitMQ could not be reached in \d+ s \(\d+ tries\): ", said)
    assert f"amqp://guest:***@127.0.0.1:{urlsplit(dead).port}/: Connect call failed" in said
    assert "NOTIFIER_AMQP_URL" in said
    assert "hush" not in said


async def test_a_silent_broker_is_told_as_no_answer(silent: str) -> None:
    with pytest.raises(BrokerUnreachable, match=r"/: no answer\."):
        await open_once([silent], "test", patience=0.6)


async def test_whoever_waits_is_told_why(dead: str) -> None:
    told: list[str] = []
    enough = asyncio.Event()

    async def waiting(sentence: str) -> None:
        told.append(sentence)
        if len(told) == 3:
            enough.set()

    link = Link([dead], "test", nothing)
    starting = asyncio.create_task(link.start(waiting=waiting))
    async with asyncio.timeout(5):
        await enough.wait()
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert re.match(r"waiting for the broker for \d+ s: amqp://guest:\*\*\*@127.0.0.1:", told[0])
    await link.close()


async def test_a_wrong_password_is_a_matter_of_configuration_at_the_first_start(broker) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await open_once([with_user(broker.url, "guest:hush")], "test", patience=10)
    assert "refuses the user name or password in NOTIFIER_AMQP_URL" in str(refused.value)
    assert "hush" not in str(refused.value)


async def test_an_unknown_virtual_host_is_named_as_the_reason(broker) -> None:
    """Not a matter of configuration beyond doubt: a broker that boots refuses its hosts for a moment as well."""
    with pytest.raises(BrokerUnreachable, match="it refuses the virtual host: there is none of that name"):
        await open_once([broker.url.rstrip("/") + "/nowhere"], "test", patience=3)


async def test_the_default_virtual_host_may_be_spelled_out(broker) -> None:
    link = await open_once([broker.url.rstrip("/") + "/%2F"], "test", patience=5)
    await link.close()


async def test_tls_to_a_plain_port_is_a_matter_of_configuration(broker) -> None:
    with pytest.raises(ConfigurationError, match="cannot be spoken to by TLS"):
        await open_once([broker.url.replace("amqp://", "amqps://")], "test", patience=10)


@pytest.fixture
def tls() -> ssl.SSLContext:
    """A server's certificate that nobody trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "merchant.test.crt", CERTIFICATES / "merchant.test.key")
    return context


async def test_an_untrusted_certificate_is_a_matter_of_configuration(broker, tls: ssl.SSLContext) -> None:
    async with Proxy(broker.url, tls) as proxy:
        with pytest.raises(ConfigurationError, match=r"cannot be spoken to by TLS: .*CERTIFICATE_VERIFY_FAILED"):
            await open_once([proxy.url], "test", patience=10)


async def test_a_connection_by_tls_is_made_lost_and_made_again(broker, tls: ssl.SSLContext) -> None:
    async with Proxy(broker.url, tls) as proxy:
        link = await open_once([f"{proxy.url}?no_verify_ssl=1"], "test", patience=10)
        first = await link.channel()
        proxy.cut()
        async with asyncio.timeout(5):
            await asyncio.wait([first.closing])
            assert not (await link.channel()).is_closed
            await link.close()


async def test_an_error_of_what_prepares_is_not_taken_for_a_lost_connection(broker) -> None:
    async def broken(_: Channel) -> None:
        raise KeyError("ours")

    link = Link([broker.url], "test", broken)
    with pytest.raises(KeyError):
        await link.start(5)
    await link.close()


async def test_a_lost_connection_is_made_again_and_prepared_again(broker) -> None:
    prepared: list[Channel] = []

    async def prepare(channel: Channel) -> None:
        prepared.append(channel)

    async with Proxy(broker.url) as proxy:
        link = Link([proxy.url], "test", prepare)
        await link.start(5)
        first = await link.channel()
        proxy.cut()
        async with asyncio.timeout(5):
            await asyncio.wait([first.closing])
            second = await link.channel()
        assert prepared == [first, second]
        await link.close()


async def test_a_line_that_freezes_while_a_connection_is_prepared_does_not_end_the_keeping(
    broker, impatient: None
) -> None:
    """The heartbeat's end of a connection reaches those who wait for an answer as a CancelledError."""
    frozen = asyncio.Event()

    async with Proxy(broker.url) as proxy:

        async def prepare(channel: Channel) -> None:
            if proxy.connections == 2 and not frozen.is_set():
                proxy.upward.clear()
                proxy.downward.clear()
                frozen.set()
            await channel.basic_qos(prefetch_count=1)

        link = Link([f"{proxy.url}?heartbeat=1"], "test", prepare)
        await link.start(5)
        proxy.cut()
        async with asyncio.timeout(15):
            await frozen.wait()
            proxy.thaw_for_new_connections()
            channel = await link.channel()
        assert not channel.is_closed
        assert proxy.connections == 3
        await link.close()


async def test_a_connection_given_up_while_it_is_being_made_is_made_once_more(broker) -> None:
    """A prefetch is widened, a queue deleted: what was prepared before that moment is out of date."""
    prepared: list[Channel] = []
    link: Link

    async def prepare(channel: Channel) -> None:
        prepared.append(channel)
        if len(prepared) == 2:
            link.reopen()
        await channel.basic_qos(prefetch_count=1)

    link = Link([broker.url], "test", prepare)
    await link.start(5)
    link.reopen()
    async with asyncio.timeout(5):
        channel = await link.channel()
    assert channel is prepared[2]
    await link.close()


async def test_nobody_gets_a_connection_that_was_given_up(broker) -> None:
    link = await open_once([broker.url], "test", patience=5)
    before = await link.channel()
    link.reopen()
    assert link.present is None
    async with asyncio.timeout(5):
        assert await link.channel() is not before
    await link.close()


async def test_a_connection_that_never_holds_is_made_with_growing_pauses(broker) -> None:
    """A connection lost at once by the same cause each time must not become a storm on the broker."""
    made: list[float] = []
    enough = asyncio.Event()

    async def prepare(channel: Channel) -> None:
        made.append(time.monotonic())
        if len(made) == 5:
            enough.set()
        elif len(made) > 1:
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(channel.connection.close()))

    link = Link([broker.url], "test", prepare)
    await link.start(5)
    link.reopen()
    async with asyncio.timeout(10):
        await enough.wait()
    pauses = [later - earlier for earlier, later in itertools.pairwise(made)]
    assert pauses[3] >= 0.4
    assert sum(pauses) >= 0.75
    await link.close()


async def test_closing_ends_even_if_its_cancellation_is_lost_below(broker) -> None:
    """Python 3.11's wait_for loses one that comes together with the result it waits for."""
    loop = asyncio.get_running_loop()
    closing: asyncio.Future[asyncio.Task[None]] = loop.create_future()
    preparing = asyncio.Event()
    link: Link

    async def prepare(_: Channel) -> None:
        if not preparing.is_set():
            preparing.set()
            return
        answer: asyncio.Future[None] = loop.create_future()
        loop.call_soon(answer.set_result, None)
        closing.set_result(asyncio.create_task(link.close()))
        await asyncio.wait_for(answer, 30)

    link = Link([broker.url], "test", prepare)
    await link.start(5)
    link.reopen()
    async with asyncio.timeout(10):
        await (await closing)


async def test_closing_before_the_start_and_twice_is_fine(broker) -> None:
    link = Link([broker.url], "test", nothing)
    await link.close()
    await link.start(5)
    await link.close()
    await link.close()
