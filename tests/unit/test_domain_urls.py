"""Which urls callbacks may go to: schemes and ports as the operator lets them, and what is said of the others."""

from __future__ import annotations

import pytest

from notifier.domain import urls
from notifier.domain.urls import UrlRule
from notifier.errors import InvalidInput, InvalidNotification

HTTPS = "the url cannot be used: callbacks go to https:// only (NOTIFIER_EGRESS__HTTPS_ONLY)"
PORTS = "the url cannot be used: callbacks go to port 443, 8000-8999 only, not {} (NOTIFIER_EGRESS__PORTS)"

ANY = UrlRule()
SECURE = UrlRule(https_only=True)
FEW = UrlRule(ports=((443, 443), (8000, 8999)))


@pytest.mark.parametrize(
    ("rule", "url"),
    [
        (ANY, "http://shop.example/"),
        (ANY, "http://shop.example:22/"),
        (SECURE, "https://shop.example/"),
        (SECURE, "HTTPS://shop.example:22/"),
        (FEW, "https://shop.example/"),
        (FEW, "https://shop.example:443/"),
        (FEW, "https://shop.example:/"),
        (FEW, "http://shop.example:443/"),
        (FEW, "http://shop.example:8000/"),
        (FEW, "http://[2606:4700::1]:8999/"),
        (FEW, "http://shop.example:08080/"),
        (UrlRule(ports=((80, 80),)), "http://shop.example/"),
    ],
)
def test_a_url_within_the_rule_is_taken_as_it_is(rule: UrlRule, url: str) -> None:
    assert rule.check(url) == url


@pytest.mark.parametrize(
    ("rule", "url", "said"),
    [
        (SECURE, "http://shop.example/", HTTPS),
        (SECURE, "HTTP://shop.example/", HTTPS),
        (SECURE, "http://shop.example:443/", HTTPS),
        (FEW, "http://shop.example/", PORTS.format(80)),
        (FEW, "https://shop.example:80/", PORTS.format(80)),
        (FEW, "https://shop.example:444/", PORTS.format(444)),
        (FEW, "https://shop.example:7999/", PORTS.format(7999)),
        (FEW, "https://shop.example:9000/", PORTS.format(9000)),
        (FEW, "https://[::1]:25/", PORTS.format(25)),
        (UrlRule(https_only=True, ports=((80, 80),)), "http://shop.example/", HTTPS),
    ],
)
def test_a_url_outside_the_rule_is_refused_with_the_setting_that_says_so(rule: UrlRule, url: str, said: str) -> None:
    with pytest.raises(InvalidNotification) as refused:
        rule.check(url)
    assert str(refused.value) == said


def test_what_is_no_url_at_all_is_refused_before_the_rule_is_asked() -> None:
    with pytest.raises(InvalidNotification, match="must start with https:// or http://"):
        ANY.check("ftp://shop.example/")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ()),
        (" , ", ()),
        ("443", ((443, 443),)),
        (" 443 , 8000-8999,", ((443, 443), (8000, 8999))),
        ("1-65535", ((1, 65535),)),
        ("80-80", ((80, 80),)),
    ],
)
def test_ports_are_separated_by_commas_and_may_be_ranges(text: str, read: tuple[tuple[int, int], ...]) -> None:
    assert urls.ports(text) == read


@pytest.mark.parametrize(
    "text",
    ["0", "65536", "999999", "-1", "+80", "8_0", "80-", "-80", "90-80", "0-80", "80-90-99", "https", "٨٠"],
)
def test_what_is_no_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        urls.ports(f"443,{text}")
    assert str(refused.value) == (f"{text!r} is not a port from 1 to 65535 such as 443, or some such as 8000-8999")
