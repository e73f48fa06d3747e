"""The egress guard's judgement: ranges, spellings, embedded addresses, and that a refusal comes before any socket."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.errors import EgressRefused
from notifier.webhook.guard import Guard, classify, embedded

RANGES = [
    # IPv4
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "this network"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.0", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.0.1", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.8", "protocol assignments"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.0.1", "private"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    # cloud metadata, also where it lies in global space
    ("169.254.169.254", "cloud metadata"),
    ("169.254.170.2", "cloud metadata"),
    ("100.100.100.200", "cloud metadata"),
    ("192.0.0.192", "cloud metadata"),
    ("168.63.129.16", "cloud metadata"),
    ("fd00:ec2::254", "cloud metadata"),
    ("fd20:ce::254", "cloud metadata"),
    # IPv6
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("100::1", "discard-only"),
    ("2001:1::1", "protocol assignments"),
    ("2001:2::1", "benchmarking"),
    ("2001:10::1", "protocol assignments"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "unique local"),
    ("fdff:ffff::1", "unique local"),
    ("fe80::1", "link-local"),
    ("febf::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "site-local"),
    ("feff::1", "site-local"),
    ("ff02::1", "multicast"),
    ("ffff::1", "multicast"),
    ("4000::1", "reserved"),
    ("1::1", "reserved"),
    ("::ffff:0:127.0.0.1", "reserved"),  # RFC 7915's IPv4-translated form
    # IPv4 inside IPv6
    ("::ffff:127.0.0.1", "IPv4-mapped loopback"),
    ("::ffff:7f00:1", "IPv4-mapped loopback"),
    ("::ffff:169.254.169.254", "IPv4-mapped cloud metadata"),
    ("::ffff:0.0.0.0", "IPv4-mapped unspecified"),
    ("::127.0.0.1", "IPv4-compatible loopback"),
    ("::7f00:1", "IPv4-compatible loopback"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("64:ff9b::127.0.0.1", "NAT64 loopback"),
    ("64:ff9b::7f00:1", "NAT64 loopback"),
    ("64:ff9b::10.1.2.3", "NAT64 private"),
    ("64:ff9b:1::8.8.8.8", "local-use NAT64"),
    ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "local-use NAT64"),
    ("2002:7f00:1::", "6to4 loopback"),
    ("2002:c0a8:1::1", "6to4 private"),
    ("2002:a9fe:a9fe::1", "6to4 cloud metadata"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo documentation"),  # the example of RFC 4380: client 192.0.2.45
    ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "Teredo"),  # client 8.8.8.8
    ("2600::5efe:10.0.0.1", "ISATAP private"),
    ("2a00:1450::200:5efe:127.0.0.1", "ISATAP loopback"),
    ("2600:1:2:3:0:5efe:169.254.169.254", "ISATAP cloud metadata"),
    ("fe80::5efe:127.0.0.1", "link-local"),
    ("fd00::5efe:8.8.8.8", "unique local"),
    ("4000::5efe:8.8.8.8", "reserved"),
]
REACHABLE = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "3ffe:ffff::1",
    "2606:4700:4700::1111%eth0",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2600::5efe:8.8.8.8",
    "2600::100:5efe:10.0.0.1",  # no ISATAP: only one bit of what stands before 5efe may be set
    "2600::5eff:10.0.0.1",
]

ipv4s = st.ip_addresses(v=4)


@pytest.mark.parametrize(("address", "name"), RANGES, ids=[address for address, _ in RANGES])
def test_an_address_that_is_not_globally_reachable_is_called_by_its_range(address: str, name: str) -> None:
    assert classify(ipaddress.ip_address(address)) == name


@pytest.mark.parametrize("address", REACHABLE)
def test_a_globally_reachable_address_has_no_range(address: str) -> None:
    assert classify(ipaddress.ip_address(address)) is None


@given(ipv4s, st.integers(0, 2**32 - 1), st.integers(0, 2**80 - 1))
def test_every_form_of_an_embedded_address_yields_it_and_its_range(
    inner: ipaddress.IPv4Address, teredo_server: int, rest: int
) -> None:
    number = int(inner)
    forms = {
        "IPv4-mapped": 0xFFFF << 32 | number,
        "NAT64": 0x64FF9B << 96 | number,
        "6to4": 0x2002 << 112 | number << 80 | rest,
        "Teredo": 0x20010000 << 96 | teredo_server << 64 | (rest & 0xFFFFFFFF) << 32 | ~number & 0xFFFFFFFF,
    }
    if number > 1:
        forms["IPv4-compatible"] = number
    range_of_inner = classify(inner)
    for form, value in forms.items():
        address = ipaddress.IPv6Address(value)
        assert embedded(address) == (form, inner)
        if range_of_inner is not None:
            assert classify(address) == f"{form} {range_of_inner}"
        else:
            assert classify(address) == (form if form in ("Teredo", "IPv4-compatible") else None)


@given(st.ip_addresses())
def test_what_is_called_reachable_is_in_no_range_that_python_knows_as_unreachable(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if classify(address) is None:
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert not address.is_unspecified
        assert not (address.is_reserved and address.version == 4)
        if isinstance(address, ipaddress.IPv6Address):
            assert not address.is_site_local
            assert address in ipaddress.ip_network("2000::/3") or embedded(address) is not None
            assert not address.is_private or embedded(address) is not None


def guard(*networks: str) -> Guard:
    return Guard([ipaddress.ip_network(network) for network in networks])


@pytest.mark.parametrize(
    ("networks", "host", "refused"),
    [
        ([], "127.0.0.1", True),
        (["127.0.0.0/8"], "127.0.0.1", False),
        (["127.0.0.0/8"], "127.9.9.9", False),
        (["127.0.0.0/8"], "10.0.0.1", True),
        (["127.0.0.0/8"], "::1", True),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", False),
        (["127.0.0.0/8"], "64:ff9b::127.0.0.1", False),
        (["127.0.0.0/8"], "2002:7f00:1::", False),
        (["127.0.0.0/8"], "::ffff:10.0.0.1", True),
        (["10.0.0.0/8"], "64:ff9b:1::10.0.0.1", True),  # where the IPv4 part stands there, only its operator knows
        (["64:ff9b:1::/48"], "64:ff9b:1::10.0.0.1", False),
        (["::1/128"], "::1", False),
        (["::1/128"], "::1%lo", False),
        (["::1/128"], "127.0.0.1", True),
        (["fe80::/10"], "fe80::1%lo", False),
        (["fd00::/8"], "fd12::1", False),
        (["169.254.169.254/32"], "169.254.169.254", False),
        (["127.0.0.0/8"], "fd00::5efe:127.0.0.1", True),  # where it leads is not all there is to it
        (["127.0.0.0/8"], "2600::5efe:127.0.0.1", True),
        (["2600::/32"], "2600::5efe:127.0.0.1", False),
        (["::1/128"], "::1%1", False),
        ([], "2606:4700:4700::1111%lo", False),
        ([], "2606:4700:4700::1111%no-such-one", True),
        ([], "2606:4700:4700::1111%.shop.test", True),  # or the event loop would look up all of it as a name
        (["::1/128"], "::1%25lo", True),
        (["0.0.0.0/0", "::/0"], "::", False),
        (["10.0.0.0/8", "192.168.0.0/16"], "192.168.7.7", False),
        ([], "8.8.8.8", False),
        ([], "2606:4700:4700::1111", False),
    ],
)
def test_only_what_the_settings_name_is_let_through(networks: list[str], host: str, refused: bool) -> None:
    assert (guard(*networks).refusal(host) is not None) is refused


@pytest.mark.parametrize(
    "host", ["", "localhost", "127.1", "0x7f.1", "2130706433", "010.0.0.1", "1.2.3.4.5", "::g", "é"]
)
def test_what_is_no_numeric_address_is_never_dialled(host: str) -> None:
    with pytest.raises(EgressRefused, match="not an IP address"):
        guard("0.0.0.0/0", "::/0").check(host)


@pytest.fixture
def no_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a socket was created for a refused address")

    monkeypatch.setattr(socket, "socket", fail)


@pytest.mark.usefixtures("no_socket_is_made")
def test_a_scope_that_no_interface_has_is_refused_and_no_setting_helps() -> None:
    with pytest.raises(EgressRefused) as refused:
        guard("::/0").open((socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%.shop.test", 443, 0, 0)))
    assert str(refused.value) == "the guard refused fe80::1%.shop.test (unknown scope)"


@pytest.mark.usefixtures("no_socket_is_made")
@pytest.mark.parametrize(("host", "name"), [("10.0.0.1", "private"), ("::ffff:127.0.0.1", "IPv4-mapped loopback")])
def test_a_refusal_comes_before_any_socket_and_names_range_and_remedy(host: str, name: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with pytest.raises(EgressRefused) as refused:
        guard().open((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, 443)))
    assert str(refused.value) == f"the guard refused {host} ({name}): allow it with NOTIFIER_EGRESS__ALLOW"


def test_a_permitted_address_gets_a_socket_of_its_family() -> None:
    with guard("::1/128").open(
        (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("::1", 80, 0, 0))
    ) as opened:
        assert (opened.family, opened.type) == (socket.AF_INET6, socket.SOCK_STREAM)
