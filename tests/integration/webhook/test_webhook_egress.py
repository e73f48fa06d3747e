"""The guard at work in the client: whatever a url says, nothing that is not let through is dialled."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from raw_merchant import LibraryNames, Names, a_merchant, a_notification, a_webhook

from notifier.domain.outcome import ErrorClass
from notifier.simulator import Simulator
from notifier.webhook.exchange import Exchange, current
from notifier.webhook.names import MOST_ADDRESSES, MOST_LOOKUPS, MOST_OF_ONE, SystemNames

REMEDY = ": allow it with NOTIFIER_EGRESS__ALLOW"

#: How urls can spell the loopback, and what comes of each without any permission. The C library reads all the IPv4
#: ones as 127.0.0.1; so aiohttp refuses those that look like a number, and the rest are looked up as names.
SPELLINGS = [
    ("127.0.0.1", "the guard refused 127.0.0.1 (loopback)" + REMEDY),
    ("127.8.8.8", "the guard refused 127.8.8.8 (loopback)" + REMEDY),
    ("0.0.0.0", "the guard refused 0.0.0.0 (unspecified)" + REMEDY),
    ("127.1", "the guard refused 127.1: it is not a canonical IPv4 address"),
    ("127.0.1", "the guard refused 127.0.1: it is not a canonical IPv4 address"),
    ("2130706433", "the guard refused 2130706433: it is not a canonical IPv4 address"),
    ("017700000001", "the guard refused 017700000001: it is not a canonical IPv4 address"),
    ("0177.0.0.1", "the guard refused 0177.0.0.1: it is not a canonical IPv4 address"),
    ("0x7f.1", "the guard refused 127.0.0.1 (loopback), which is where 0x7f.1 leads" + REMEDY),
    ("0x7f000001", "the guard refused 127.0.0.1 (loopback), which is where 0x7f000001 leads" + REMEDY),
    ("0", "the guard refused 0: it is not a canonical IPv4 address"),
    ("127.000.000.001", "the guard refused 127.000.000.001: it is not a canonical IPv4 address"),
    ("0x7f.0x0.0x0.0x1", "the guard refused 127.0.0.1 (loopback), which is where 0x7f.0x0.0x0.0x1 leads" + REMEDY),
    ("127.0.0.0x1", "the guard refused 127.0.0.1 (loopback), which is where 127.0.0.0x1 leads" + REMEDY),
    ("0300.0250.0.1", "the guard refused 0300.0250.0.1: it is not a canonical IPv4 address"),
    ("3232235777", "the guard refused 3232235777: it is not a canonical IPv4 address"),
    ("0xC0A80001", "the guard refused 192.168.0.1 (private), which is where 0xc0a80001 leads" + REMEDY),
    ("0xA9FEA9FE", "the guard refused 169.254.169.254 (cloud metadata), which is where 0xa9fea9fe leads" + REMEDY),
    ("127.0.0.1..", None),
    ("127.1.", None),
    ("127.0.0.1%00.shop.test", None),
    ("127.0.0.1%2f.shop.test", None),
    ("%31%32%37.0.0.1", None),
    ("127.0.0.1.", None),  # the dot at the end: libraries differ; it must just not get through
    ("127%2e0%2e0%2e1", None),
    ("１２７.0.0.1", None),  # full-width digits
    ("127。0。0。1", None),  # ideographic full stops
    ("①②⑦.0.0.1", None),
    ("localhost", "the guard refused 127.0.0.1 (loopback), which is where localhost leads" + REMEDY),
    ("ｌｏｃａｌｈｏｓｔ", "the guard refused 127.0.0.1 (loopback), which is where localhost leads" + REMEDY),
    ("local\u00adhost", None),  # a soft hyphen
    ("local\u200bhost", None),  # a blank without width
    ("LOCALHOST", "the guard refused 127.0.0.1 (loopback), which is where localhost leads" + REMEDY),
    ("[::1]", "the guard refused ::1 (loopback)" + REMEDY),
    ("[0:0:0:0:0:0:0:1]", "the guard refused ::1 (loopback)" + REMEDY),
    ("[::]", "the guard refused :: (unspecified)" + REMEDY),
    ("[::1%lo]", "the guard refused ::1%lo (loopback)" + REMEDY),
    ("[::1%25lo]", "the guard refused ::1%25lo (loopback)" + REMEDY),  # RFC 6874's spelling
    ("[::1%1]", "the guard refused ::1%1 (loopback)" + REMEDY),
    ("[::1%.shop.test]", "the guard refused ::1%.shop.test (loopback)" + REMEDY),
    ("[0000::0001]", "the guard refused ::1 (loopback)" + REMEDY),
    ("[0:0:0:0:0:ffff:127.0.0.1]", "the guard refused ::ffff:7f00:1 (IPv4-mapped loopback)" + REMEDY),
    ("[::FFFF:7F00:0001]", "the guard refused ::ffff:7f00:1 (IPv4-mapped loopback)" + REMEDY),
    ("[::ffff:169.254.169.254%lo]", "the guard refused ::ffff:a9fe:a9fe%lo (IPv4-mapped cloud metadata)" + REMEDY),
    ("[::ffff:0:127.0.0.1]", "the guard refused ::ffff:0:7f00:1 (reserved)" + REMEDY),  # RFC 7915, IPv4-translated
    ("[64:ff9b:1::10.0.0.1]", "the guard refused 64:ff9b:1::a00:1 (local-use NAT64)" + REMEDY),
    ("[2001:0:808:808::f5ff:fffe]", "the guard refused 2001:0:808:808::f5ff:fffe (Teredo private)" + REMEDY),
    ("[2600::5efe:10.0.0.1]", "the guard refused 2600::5efe:a00:1 (ISATAP private)" + REMEDY),
    ("[fec0::1]", "the guard refused fec0::1 (site-local)" + REMEDY),
    ("[ff02::1]", "the guard refused ff02::1 (multicast)" + REMEDY),
    ("[2606:4700::1%.shop.test]", "the guard refused 2606:4700::1%.shop.test (unknown scope)"),
    ("[v1.127.0.0.1]", None),
    ("[::ffff:127.0.0.1]", "the guard refused ::ffff:7f00:1 (IPv4-mapped loopback)" + REMEDY),
    ("[::ffff:7f00:1]", "the guard refused ::ffff:7f00:1 (IPv4-mapped loopback)" + REMEDY),
    ("[::127.0.0.1]", "the guard refused ::7f00:1 (IPv4-compatible loopback)" + REMEDY),
    ("[64:ff9b::127.0.0.1]", "the guard refused 64:ff9b::7f00:1 (NAT64 loopback)" + REMEDY),
    ("[2002:7f00:1::]", "the guard refused 2002:7f00:1:: (6to4 loopback)" + REMEDY),
    ("10.0.0.1", "the guard refused 10.0.0.1 (private)" + REMEDY),
    ("169.254.169.254", "the guard refused 169.254.169.254 (cloud metadata)" + REMEDY),
    ("[fd00:ec2::254]", "the guard refused fd00:ec2::254 (cloud metadata)" + REMEDY),
    ("[fe80::1%eth0]", "the guard refused fe80::1%eth0 (link-local)" + REMEDY),
]


@pytest.mark.usefixtures("no_socket_is_made")
@pytest.mark.parametrize(("host", "detail"), SPELLINGS, ids=[host for host, _ in SPELLINGS])
async def test_no_spelling_gets_past_the_guard(host: str, detail: str | None) -> None:
    names = LibraryNames({"localhost": ["127.0.0.1"]})
    async with a_webhook(allow="", resolver=names) as webhook:
        for scheme in ("http", "https"):
            outcome = await webhook(a_notification(f"{scheme}://{host}:9/hook"), a_merchant())
            assert outcome.address is None
            if detail is None:
                assert outcome.error in (ErrorClass.GUARD, ErrorClass.DNS), outcome.detail
            else:
                assert (outcome.error, outcome.detail) == (ErrorClass.GUARD, detail)


@pytest.mark.usefixtures("no_socket_is_made")
async def test_a_name_that_leads_to_refused_addresses_alone_is_refused() -> None:
    names = Names({"rebound.test": ["10.0.0.1", "::ffff:169.254.169.254", "127.0.0.1"]})
    async with a_webhook(allow="", resolver=names) as webhook:
        outcome = await webhook(a_notification("http://rebound.test/"), a_merchant())
        assert outcome.error is ErrorClass.GUARD
        assert outcome.detail == "the guard refused 10.0.0.1 (private), which is where rebound.test leads" + REMEDY


async def test_of_a_names_addresses_only_the_permitted_ones_are_dialled(opened: list[int]) -> None:
    names = Names({"mixed.test": ["10.0.0.1", "127.0.0.1", "::1"]})
    async with Simulator() as simulator, a_webhook(allow="127.0.0.0/8", resolver=names) as webhook:
        outcome = await webhook(a_notification(f"http://mixed.test:{simulator.port}/"), a_merchant())
        assert outcome.acknowledged, outcome.detail
        assert outcome.address == f"127.0.0.1:{simulator.port}"
        assert simulator.received[0].headers["host"] == f"mixed.test:{simulator.port}"
    assert opened == [socket.AF_INET]


async def test_an_allowed_address_is_reached_in_its_mapped_form_too() -> None:
    async with Simulator() as simulator, a_webhook(allow="127.0.0.0/8") as webhook:
        outcome = await webhook(a_notification(f"http://[::ffff:127.0.0.1]:{simulator.port}/"), a_merchant())
        assert outcome.acknowledged, outcome.detail


async def test_where_one_address_of_a_name_fails_the_next_one_is_tried() -> None:
    async with Simulator() as simulator:  # listens on 127.0.0.1 alone
        names = Names({"two.test": ["127.0.0.2", "127.0.0.1"]})
        async with a_webhook(resolver=names) as webhook:
            outcome = await webhook(a_notification(f"http://two.test:{simulator.port}/"), a_merchant())
            assert outcome.acknowledged, outcome.detail
            assert outcome.address == f"127.0.0.1:{simulator.port}"


async def test_a_name_with_very_many_addresses_gets_few_attempts(opened: list[int]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        names = Names({"many.test": [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(1000)]})
        async with a_webhook(resolver=names) as webhook:
            outcome = await webhook(a_notification(f"http://many.test:{port}/"), a_merchant())
    assert outcome.error is ErrorClass.CONNECT
    assert outcome.detail.startswith("connection refused by 127.0.0.1:")
    assert MOST_ADDRESSES <= len(opened) <= MOST_ADDRESSES * (MOST_ADDRESSES + 1) / 2  # aiohttp begins again, one less


async def test_a_name_without_an_address_is_a_dns_failure_and_told_so() -> None:
    async with a_webhook(resolver=Names({"empty.test": []})) as webhook:
        unknown = await webhook(a_notification("http://unknown.test/"), a_merchant())
        empty = await webhook(a_notification("http://empty.test/"), a_merchant())
        too_long = await webhook(a_notification(f"http://{'a' * 64}.test/"), a_merchant())
    assert (unknown.error, unknown.detail) == (
        ErrorClass.DNS,
        "unknown.test has no address: Name or service not known",
    )
    assert (empty.error, empty.detail) == (ErrorClass.DNS, "empty.test has no address: the name has no address")
    assert too_long.error is ErrorClass.DNS


async def test_a_name_is_looked_up_once_for_many_calls() -> None:
    names = Names({"shop.test": ["127.0.0.1"]})
    async with Simulator() as simulator, a_webhook(resolver=names) as webhook:
        calls = [webhook(a_notification(f"http://shop.test:{simulator.port}/"), a_merchant()) for _ in range(20)]
        assert all(outcome.acknowledged for outcome in await asyncio.gather(*calls))
    assert names.asked == ["shop.test"]


async def test_a_lookup_that_hangs_costs_the_connecting_timeout() -> None:
    class Hanging(Names):
        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> Any:
            await asyncio.Event().wait()

    async with a_webhook(resolver=Hanging({}), connect_timeout=0.2) as webhook:
        outcome = await webhook(a_notification("http://shop.test/"), a_merchant())
    assert (outcome.error, outcome.detail) == (ErrorClass.DNS, "looking up shop.test took longer than 0.2 s")
    assert 0.199 <= outcome.duration < 2


# The system's resolver, with a lookup of the tests' own


async def test_lookups_that_hang_do_not_hold_up_another() -> None:
    release = threading.Event()

    def lookup(host: str, port: int, *_: object) -> Sequence[Any]:
        if host.startswith("hangs"):
            assert release.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    names = SystemNames(lookup)
    hanging = [asyncio.create_task(names.resolve(f"hangs{n}")) for n in range(MOST_LOOKUPS - 1)]
    [found] = await asyncio.wait_for(names.resolve("fine", 80), 5)
    assert (found["host"], found["port"]) == ("192.0.2.1", 80)
    assert not any(task.done() for task in hanging)
    release.set()
    assert all(len(found) == 1 for found in await asyncio.gather(*hanging))


async def test_a_merchant_with_hanging_names_does_not_hold_up_the_lookups_of_another() -> None:
    release, looked_up = threading.Event(), list[str]()

    def lookup(host: str, port: int, *_: object) -> Sequence[Any]:
        looked_up.append(host)
        if host.startswith("hangs"):
            assert release.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    names = SystemNames(lookup, patience=20)
    async with (
        Simulator() as simulator,
        a_webhook(resolver=names, connect_timeout=0.5) as webhook,
        a_webhook(resolver=names, timeout=20, connect_timeout=20) as patient,
    ):
        urls = [f"http://hangs{n}.test:{simulator.port}/" for n in range(MOST_LOOKUPS + 1)]
        greedy = [asyncio.create_task(webhook(a_notification(url), a_merchant(id="greedy"))) for url in urls]
        await asyncio.sleep(0)  # they are under way before the other one
        fine = await patient(a_notification(f"http://fine.test:{simulator.port}/"), a_merchant(id="fine"))
        assert fine.acknowledged, fine.detail
        outcomes = await asyncio.gather(*greedy)
        assert len(looked_up) == MOST_OF_ONE + 1
        assert {outcome.error for outcome in outcomes} == {ErrorClass.DNS}
        release.set()
        again = await patient(a_notification(f"http://again.test:{simulator.port}/"), a_merchant(id="greedy"))
        assert again.acknowledged, again.detail


async def test_a_lookup_that_finds_no_room_gives_up_after_its_patience() -> None:
    release = threading.Event()

    def lookup(*_: object) -> Sequence[Any]:
        assert release.wait(20)
        return []

    names = SystemNames(lookup, patience=0.05)
    context = current.set(Exchange("greedy"))
    try:
        hanging = [asyncio.create_task(names.resolve(f"hangs{n}.test")) for n in range(MOST_OF_ONE)]
        await asyncio.sleep(0)  # they have their room
        with pytest.raises(socket.gaierror, match="too many lookups are under way"):
            await names.resolve("one-more.test")
    finally:
        current.reset(context)
        release.set()
    await asyncio.gather(*hanging)


async def test_what_a_lookup_finds_is_told_with_its_scope() -> None:
    def lookup(*_: object) -> Sequence[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, 3)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::2%eth0", 80, 0, 3)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
            (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/nonsense"),
        ]

    found = await SystemNames(lookup).resolve("shop.test", 80)
    assert [each["host"] for each in found] == ["fe80::1%3", "fe80::2%eth0", "2001:db8::1"]


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "try again"), MemoryError(), ValueError("odd")])
async def test_what_a_lookup_raises_is_raised(error: Exception) -> None:
    def lookup(*_: object) -> Sequence[Any]:
        raise error

    with pytest.raises(type(error)):
        await SystemNames(lookup).resolve("shop.test")


async def test_localhost_and_impossible_names_need_no_server() -> None:
    assert "127.0.0.1" in [each["host"] for each in await SystemNames().resolve("localhost", 80)]
    with pytest.raises(socket.gaierror, match="not a host name"):
        await SystemNames().resolve("a" * 64 + ".test")


def test_a_lookup_under_way_does_not_keep_the_process_from_ending() -> None:
    program = """
import asyncio, threading
from notifier.webhook.names import SystemNames
async def main():
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    def lookup(*_):
        loop.call_soon_threadsafe(asked.set)
        threading.Event().wait()
    task = asyncio.create_task(SystemNames(lookup).resolve("hangs.test"))
    await asked.wait()
    task.cancel()
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], timeout=20, env=os.environ, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
