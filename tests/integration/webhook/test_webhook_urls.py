"""Urls at the moment of the attempt: whatever let them in, only those that may be called are, and none is misread."""

from __future__ import annotations

from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_merchant import LibraryNames, Names, a_merchant, a_notification, a_webhook

from notifier.domain.notification import check_url
from notifier.domain.outcome import ErrorClass
from notifier.errors import EgressRefused, InvalidNotification
from notifier.sections import Egress
from notifier.simulator import Simulator
from notifier.webhook.guard import Guard

NO_HTTP = "the guard refused the url: it is neither https:// nor http://"
USERINFO = "the guard refused 127.0.0.1: a user name or password stands before it"
UNREAD = "the url cannot be read"
#: Releases of Python differ in whether they see a host in it; that it is none is clear to all.
BESIDE_BRACKETS = (UNREAD, "the url's host '::1' cannot be used")
#: What leads to loopback everywhere, so a test that forbids sockets would see every slip.
EVERYWHERE = "0.0.0.0/0,::/0"

#: Urls that are refused where they come in. A registry kept by an older version may hold them all the same: then the
#: attempt refuses them.
ODD = [
    ("ftp://127.0.0.1/", "guard", NO_HTTP),
    ("file:///etc/passwd", "guard", NO_HTTP),
    ("gopher://127.0.0.1:6379/_INFO", "guard", NO_HTTP),
    ("ws://127.0.0.1/", "guard", NO_HTTP),
    ("wss://127.0.0.1/", "guard", NO_HTTP),
    ("tcp://127.0.0.1/", "guard", NO_HTTP),
    ("unix:///run/docker.sock", "guard", NO_HTTP),
    ("http+unix://%2Frun%2Fdocker.sock/", "guard", NO_HTTP),
    ("javascript:alert(1)", "guard", NO_HTTP),
    ("//127.0.0.1/", "guard", NO_HTTP),
    ("127.0.0.1", "guard", NO_HTTP),
    ("http://user:secret@127.0.0.1/", "guard", USERINFO),
    ("http://user@127.0.0.1/", "guard", USERINFO),
    ("http://:secret@127.0.0.1/", "guard", USERINFO),
    ("http://shop.test:80@127.0.0.1/", "guard", USERINFO),
    ("http://a@b@127.0.0.1/", "guard", USERINFO),
    ("http://127.0.0.1:0/", "guard", "the guard refused 127.0.0.1: port 0 is no port"),
    ("http://shop.test\\@127.0.0.1/", "dns", "the url's host '127.0.0.1' cannot be used"),
    ("http://[::1]x/", "dns", BESIDE_BRACKETS),
    ("http://[::1].shop.test/", "dns", BESIDE_BRACKETS),
    ("http://[127.0.0.1]/", "dns", UNREAD),
    ("http://[localhost]/", "dns", UNREAD),
    ("http:///127.0.0.1/", "dns", UNREAD),
    ("http:127.0.0.1/", "dns", UNREAD),
    ("http:/127.0.0.1/", "dns", UNREAD),
    ("http://shop.test\uff0f@127.0.0.1/", "dns", UNREAD),  # letters that Unicode takes for a slash or an @
    ("http://shop.test\uff20127.0.0.1/", "dns", UNREAD),
    ("http://127.0.0.1\uff1a22/", "dns", UNREAD),
    ("http://[::]:80:90/", "dns", "the url's host '::' cannot be used"),
    ("http://127.0.0.1:80a/", "dns", "the url's host '127.0.0.1' cannot be used"),
    ("http://127.0.0.1:-1/", "dns", "the url's host '127.0.0.1' cannot be used"),
    ("http://127.0.0.1:65536/", "dns", "the url's host '127.0.0.1' cannot be used"),
]


@pytest.mark.usefixtures("no_socket_is_made")
@pytest.mark.parametrize(("url", "error", "detail"), ODD, ids=[ascii(url) for url, *_ in ODD])
async def test_an_odd_url_is_refused_where_it_enters_and_at_the_attempt(
    url: str, error: str, detail: str | tuple[str, str]
) -> None:
    with pytest.raises(InvalidNotification):
        check_url(url)
    async with a_webhook(allow=EVERYWHERE, resolver=Names({})) as webhook:
        for notification, merchant in (
            (a_notification(url), a_merchant()),
            (a_notification(None), a_merchant(url=url)),
        ):
            outcome = await webhook(notification, merchant)
            assert outcome.error == error
            assert outcome.detail in (detail if isinstance(detail, tuple) else (detail,))
            assert "secret" not in outcome.detail


#: Where a reader of urls other than the one that dials might see another host.
READ = [
    ("http://shop.test#@127.0.0.1/", "shop.test"),
    ("http://shop.test?@127.0.0.1/", "shop.test"),
    ("http://shop.test/@127.0.0.1/", "shop.test"),
    ("http://shop.test/\\@127.0.0.1/", None),
    ("http://127.0.0.1#@shop.test/", "127.0.0.1"),
    ("http://127.0.0.1?@shop.test/", "127.0.0.1"),
    ("http://SHOP.test/", "shop.test"),
    ("http://shop.test:/", "shop.test"),
    ("http://shop.test:00080/", "shop.test"),
    ("http://b\u00fccher.test/", "xn--bcher-kva.test"),
]


@pytest.mark.parametrize(("url", "host"), READ, ids=[ascii(url) for url, _ in READ])
def test_the_host_is_that_of_the_standard(url: str, host: str | None) -> None:
    if host is None:
        with pytest.raises(InvalidNotification):
            check_url(url)
    else:
        target = Guard().admit(check_url(url))
        assert (target.raw_host, target.port) == (host, 80)


@given(
    st.sampled_from(["http", "https", "HTTP", "hTTps"]),
    st.text(st.sampled_from("ab1.:@/?#[]%\\-_~;,=&+0x\u00e9\u3002\uff0f\uff20\u0661"), max_size=16),
)
def test_whoever_reads_a_url_where_it_enters_reads_the_same_as_who_dials_it(scheme: str, rest: str) -> None:
    try:
        parts = urlsplit(check_url(f"{scheme}://{rest}"))
        target = Guard().admit(parts.geturl())
    except (InvalidNotification, aiohttp.InvalidURL):
        return
    assert target.scheme == parts.scheme
    assert target.port == (parts.port or {"http": 80, "https": 443}[parts.scheme])
    assert parts.hostname is not None
    if parts.hostname.isascii() and not parts.netloc.startswith("["):
        assert target.raw_host == parts.hostname


@pytest.mark.usefixtures("no_socket_is_made")
@pytest.mark.parametrize("host", ["a" * 1900, ".".join(["a" * 60] * 30), "1." * 900 + "1", "\u0661" * 300])
async def test_a_very_long_host_is_told_in_a_short_line(host: str) -> None:
    async with a_webhook(allow="", resolver=LibraryNames({host: ["10.0.0.1"]})) as webhook:
        outcome = await webhook(a_notification(f"http://{host}/?token=secret"), a_merchant())
    assert outcome.error in (ErrorClass.GUARD, ErrorClass.DNS)
    assert 0 < len(outcome.detail) <= 240
    assert "secret" not in outcome.detail


# The settings of schemes and ports, for what came in before they were set

HTTPS = "callbacks go to https:// only (NOTIFIER_EGRESS__HTTPS_ONLY)"
PORTS = "callbacks go to port 443, 8000-8999 only, not {} (NOTIFIER_EGRESS__PORTS)"


@pytest.mark.usefixtures("no_socket_is_made")
@pytest.mark.parametrize(
    ("settings", "url", "detail"),
    [
        ({"https_only": True}, "http://127.0.0.1/", HTTPS),
        ({"https_only": True}, "HTTP://127.0.0.1:443/", HTTPS),
        ({"ports": "443,8000-8999"}, "http://127.0.0.1/", PORTS.format(80)),
        ({"ports": "443,8000-8999"}, "http://127.0.0.1:22/", PORTS.format(22)),
        ({"ports": "443,8000-8999"}, "https://127.0.0.1:9000/", PORTS.format(9000)),
        ({"ports": "443,8000-8999"}, "https://127.0.0.1:+25/", PORTS.format(25)),  # read so by who dials
        ({"ports": "443,8000-8999", "https_only": True}, "http://127.0.0.1:25/", HTTPS),
    ],
)
async def test_a_url_that_the_settings_do_not_let_be_called_is_a_refusal_of_the_guard(
    settings: dict[str, object], url: str, detail: str
) -> None:
    async with a_webhook(**settings) as webhook:
        for notification, merchant in (
            (a_notification(url), a_merchant()),
            (a_notification(None), a_merchant(url=url)),
        ):
            outcome = await webhook(notification, merchant)
            assert (outcome.error, outcome.address) == (ErrorClass.GUARD, None)
            assert outcome.detail == f"the guard refused 127.0.0.1: {detail}"


async def test_a_url_that_the_settings_let_be_called_is_called() -> None:
    async with Simulator() as simulator, a_webhook(ports=f"1-9,{simulator.port}") as webhook:
        outcome = await webhook(a_notification(simulator.url), a_merchant())
        assert outcome.acknowledged, outcome.detail


@pytest.mark.usefixtures("no_socket_is_made")
def test_the_port_is_looked_at_again_where_a_socket_would_be_made() -> None:
    egress = Egress(allow=EVERYWHERE, ports="443")
    with pytest.raises(EgressRefused, match="the guard refused port 22: allow it with NOTIFIER_EGRESS__PORTS"):
        Guard(egress.networks, egress.urls).open((2, 1, 6, "", ("127.0.0.1", 22)))
