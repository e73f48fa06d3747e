"""The egress guard: no callback reaches an address that is not globally reachable, unless the settings let it.

A merchant's url is written by strangers. Without a guard it could make this service post to the machine's own
loopback, to neighbours in the data centre, or to the cloud's metadata service. `ipaddress.is_global` is no guard: it
lets NAT64, site-local and multicast forms pass and differs between patch releases of Python. So the ranges stand
here, after the IANA special-purpose registries (RFC 6890 and its updates):
https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import aiohttp
from yarl import URL

from notifier.domain.urls import UrlRule
from notifier.errors import EgressRefused

IPv4 = ipaddress.IPv4Address
IPv6 = ipaddress.IPv6Address
Address = IPv4 | IPv6
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Single addresses behind which clouds keep credentials or control. Some lie in global space.
_METADATA: frozenset[Address] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean, Hetzner and others
        "169.254.169.253",  # AWS resolver
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS pod identity
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure wire server, in global space
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",  # AWS resolver
        "fd00:ec2::23",  # AWS EKS pod identity
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fd00:42::42",  # Scaleway
    )
)

#: First match counts: narrower ranges stand before those that hold them.
_IPV4: tuple[tuple[ipaddress.IPv4Network, str], ...] = tuple(
    (ipaddress.IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/32", "unspecified"),
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_IPV6: tuple[tuple[ipaddress.IPv6Network, str], ...] = tuple(
    (ipaddress.IPv6Network(network), name)
    for network, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "local-use NAT64"),  # RFC 8215: where the IPv4 address stands is the operator's choice
        ("100::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),  # RFC 9637
        ("5f00::/16", "segment routing"),  # RFC 9602
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")
_TEREDO = ipaddress.IPv6Network("2001::/32")
#: RFC 5214 §6.1: what stands before an IPv4 address at the end of an IPv6 address of any network, which a router of
#: that network tunnels to the IPv4 address. The bit left out of the mask says whether that one is globally unique.
_ISATAP = 0x0000_5EFE
_ISATAP_MASK = ~0x0200_0000
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

_LOW_32 = 0xFFFF_FFFF

#: Reasons that no setting can take away.
_NO_ADDRESS = "not an IP address"
_NO_SCOPE = "unknown scope"


def classify(address: Address) -> str | None:
    """The name of the range that keeps this address from being globally reachable; None if it is reachable.

    An IPv4 address inside an IPv6 one is judged as well: `::ffff:10.0.0.1` is "IPv4-mapped private". A scope id
    (`fe80::1%eth0`) plays no part.
    """
    if isinstance(address, IPv4):
        return _classify_ipv4(address)
    address = _without_scope(address)
    if address in _METADATA:
        return "cloud metadata"
    for network, name in _IPV6:
        if address in network:
            inner = embedded(address)
            within = None if inner is None else _classify_ipv4(inner[1])
            return f"{name} {within}" if within else name
    inner = embedded(address)
    if inner is not None:
        form, ipv4 = inner
        within = _classify_ipv4(ipv4)
        if within is not None:
            return f"{form} {within}"
        # ::/96 is deprecated and goes nowhere; the other forms lead to a reachable IPv4 address.
        return form if form == "IPv4-compatible" else None
    if address not in _GLOBAL_UNICAST:  # RFC 4291 §2.4: it has no meaning for us yet
        return "reserved"
    number = int(address)
    if number >> 32 & _LOW_32 & _ISATAP_MASK == _ISATAP and (within := _classify_ipv4(IPv4(number & _LOW_32))):
        return f"ISATAP {within}"  # not among the embedded: letting the IPv4 address through says nothing of this one
    return None


def embedded(address: IPv6) -> tuple[str, IPv4] | None:
    """The IPv4 address that an IPv6 address leads to, with the name of the form; None if there is none.

    Local-use NAT64 (RFC 8215) is left out: it does not say where in the address the IPv4 part stands.
    """
    number = int(address)
    if address in _MAPPED:
        return "IPv4-mapped", IPv4(number & _LOW_32)
    if address in _COMPATIBLE and number > 1:  # :: and ::1 are addresses of their own
        return "IPv4-compatible", IPv4(number & _LOW_32)
    if address in _NAT64:
        return "NAT64", IPv4(number & _LOW_32)
    if address in _6TO4:
        return "6to4", IPv4(number >> 80 & _LOW_32)
    if address in _TEREDO:  # RFC 4380 §4: the client's address stands there with every bit turned
        return "Teredo", IPv4(~number & _LOW_32)
    return None


def _classify_ipv4(address: IPv4) -> str | None:
    if address in _METADATA:
        return "cloud metadata"
    return next((name for network, name in _IPV4 if address in network), None)


def _is_scope(scope: str) -> bool:
    """Whether it names an interface of this machine: else the event loop would look up the whole text as a name."""
    if scope.isascii() and scope.isdigit():
        return True
    try:
        return socket.if_nametoindex(scope) > 0
    except (OSError, ValueError):
        return False


def _without_scope(address: IPv6) -> IPv6:
    return address if address.scope_id is None else IPv6(int(address))


class Guard:
    """Judges every url that is to be called, and the final address of every connection attempt.

    let_through: networks that the settings allow, also in the IPv4-carrying IPv6 forms of an allowed IPv4 address.
    urls: what the settings allow of schemes and ports.
    """

    def __init__(self, let_through: Iterable[Network] = (), urls: UrlRule | None = None) -> None:
        self._let_through = tuple(let_through)
        self._urls = urls or UrlRule()

    def admit(self, url: str) -> URL:
        """What is to be dialled for this url, read once, by the library that dials it: two readers could differ.

        Raises EgressRefused for anything but an http or https url without userinfo and within the rule, whatever was
        checked when it came in; aiohttp.InvalidURL for what cannot be read at all.
        """
        try:
            target = URL(url)
        except ValueError as error:
            raise aiohttp.InvalidURL("", str(error)) from None  # without the url: its path or query may be a secret
        if target.scheme not in ("http", "https"):
            raise EgressRefused("the guard refused the url: it is neither https:// nor http://")
        if target.raw_host is None:
            raise aiohttp.InvalidURL("", "it names no host")
        if target.raw_user is not None or target.raw_password is not None:
            raise EgressRefused(f"the guard refused {target.raw_host}: a user name or password stands before it")
        assert target.port is not None  # these schemes have one of their own
        if target.port == 0:
            raise EgressRefused(f"the guard refused {target.raw_host}: port 0 is no port")
        why = self._urls.refusal(target.scheme, target.port)
        if why is not None:
            raise EgressRefused(f"the guard refused {target.raw_host}: {why}")
        return target

    def refusal(self, host: str) -> str | None:
        """Why this numeric address must not be dialled; None if it may be. Anything but an address is refused."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return _NO_ADDRESS
        scope = None
        if isinstance(address, IPv6):
            scope, address = address.scope_id, _without_scope(address)
        name = classify(address)
        if name is not None and not self._is_let_through(address):
            return name
        return None if scope is None or _is_scope(scope) else _NO_SCOPE

    def check(self, host: str) -> None:
        """Return if this numeric address may be dialled; else raise EgressRefused naming the range and the remedy."""
        name = self.refusal(host)
        if name is not None:
            remedy = "" if name in (_NO_ADDRESS, _NO_SCOPE) else ": allow it with NOTIFIER_EGRESS__ALLOW"
            raise EgressRefused(f"the guard refused {host} ({name}){remedy}")

    def open(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address that may be dialled: aiohttp's `socket_factory`.

        addr_info: as from getaddrinfo. Raises EgressRefused before any socket exists.
        """
        family, kind, protocol, _, address = addr_info
        self.check(address[0])
        if not self._urls.takes(address[1]):
            raise EgressRefused(f"the guard refused port {address[1]}: allow it with NOTIFIER_EGRESS__PORTS")
        return socket.socket(family=family, type=kind, proto=protocol)

    def _is_let_through(self, address: Address) -> bool:
        inner = embedded(address) if isinstance(address, IPv6) else None
        judged: tuple[Address, ...] = (address,) if inner is None else (address, inner[1])
        return any(one.version == network.version and one in network for network in self._let_through for one in judged)
