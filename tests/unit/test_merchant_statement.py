"""A merchant as people state it: what is taken, and what is said about what is not."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import MASKED
from notifier.domain.signature import Secret
from notifier.domain.statement import MOST_HEADERS, MOST_OF_HEADERS, MOST_VALUE, RESERVED, stated
from notifier.domain.tier import Tier
from notifier.domain.urls import UrlRule
from notifier.errors import InvalidMerchant

LADDERS = {"default": Ladder.parse("1s,3s"), "slow": Ladder.parse("1m,5m"), "elsewhere": Ladder.parse("2h")}
CONFIGURED = [Tier.parse(name) for name in ("1s", "3s", "1m", "5m")]
ANY_URL = UrlRule()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def problems(fields: dict[str, Any], *, secret: bool = True) -> dict[str, str]:
    with pytest.raises(InvalidMerchant) as caught:
        stated(fields, LADDERS, CONFIGURED, ANY_URL, secret=secret)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("url", "https://shop.example/hook?a=1", "https://shop.example/hook?a=1"),
        ("url", None, None),
        ("ladder", "slow", Ladder.parse("1m,5m")),
        ("ladder", "1s, 60s", Ladder.parse("1s,1m")),
        ("ladder", ["1s", "3s", "3s"], Ladder.parse("1s,3s,3s")),
        ("ladder", None, None),
        ("ack", "json:code=SUCCESS", AckRule.parse("json:code=SUCCESS")),
        ("ack", None, None),
        ("concurrency", 1, 1),
        ("concurrency", 2000, 2000),
        ("concurrency", None, None),
        ("rate", 1, 1.0),
        ("rate", 0.25, 0.25),
        ("rate", None, None),
    ],
)
def test_a_good_field_is_read_into_our_types(name: str, value: Any, read: Any) -> None:
    assert stated({name: value}, LADDERS, CONFIGURED, ANY_URL, secret=False).fields == {name: read}


@pytest.mark.parametrize("url", ["http://shop.example/hook", "https://shop.example:8443/"])
def test_a_url_that_the_operator_does_not_let_be_called_is_refused(url: str) -> None:
    rule = UrlRule(https_only=True, ports=((443, 443),))
    with pytest.raises(InvalidMerchant, match=r"url: the url cannot be used: callbacks go to .* only"):
        stated({"url": url}, LADDERS, CONFIGURED, rule, secret=False)
    assert stated({"url": "https://shop.example/"}, LADDERS, CONFIGURED, rule, secret=False).fields
    assert stated({"rate": 1}, LADDERS, CONFIGURED, rule, secret=False).fields == {"rate": 1.0}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("url", "shop.example", "must start with https:// or http://"),
        ("url", "https://user:hunter2@shop.example/", "send credentials as a header"),
        ("url", 7, "7 is not text"),
        ("ladder", "elsewhere", "ladder 2h names 2h, which no process serves; configured tiers: 1s, 3s, 1m, 5m"),
        ("ladder", "1s,7s,9s", "names 7s, 9s"),
        ("ladder", "fast", "or name one of: default, slow, elsewhere"),
        ("ladder", [], "is not a ladder"),
        ("ladder", [1], "is not text"),
        ("ack", "maybe", "write http, body=success or json:code=SUCCESS"),
        ("ack", "body=" + "x" * 600, "too long"),
        ("concurrency", 0, "is not a whole number from 1 to 2000"),
        ("concurrency", 2001, "is not a whole number from 1 to 2000"),
        ("concurrency", True, "is not a whole number from 1 to 2000"),
        ("concurrency", 1.5, "is not a whole number from 1 to 2000"),
        ("rate", 0, "more than 0"),
        ("rate", -1, "more than 0"),
        ("rate", 10_001, "at most 10000"),
        ("rate", float("nan"), "is not a number"),
        ("rate", "5", "is not a number"),
        ("headers", ["X-A"], "are an object of names and values"),
        ("headers", {"": "1"}, "is not a header's name"),
        ("headers", {"X A": "1"}, "is not a header's name"),
        ("headers", {"X:A": "1"}, "is not a header's name"),
        ("headers", {"Ärger": "1"}, "is not a header's name"),
        ("headers", {"X" * 65: "1"}, "is not a header's name"),
        ("headers", {"X-A": "a", "x-a": "b"}, "stands there twice"),
        ("headers", {"X-A": "one\r\nX-B: two"}, "the value of X-A cannot be sent"),
        ("headers", {"X-A": "one\ntwo"}, "the value of X-A cannot be sent"),
        ("headers", {"X-A": " blank"}, "the value of X-A cannot be sent"),
        ("headers", {"X-A": ""}, "the value of X-A cannot be sent"),
        ("headers", {"X-A": "é"}, "the value of X-A cannot be sent"),
        ("headers", {"X-A": 7}, "the value of X-A cannot be sent"),
        ("headers", {"X-A": "x" * (MOST_VALUE + 1)}, "the value of X-A cannot be sent"),
        ("headers", {f"X-{n}": "1" for n in range(2 * MOST_HEADERS + 1)}, "too many"),
        ("secret", "hunter2", "starts with 'whsec_'"),
        ("secret", 7, "a secret is text"),
    ],
)
def test_a_bad_field_is_refused_by_its_name_with_what_to_do(name: str, value: Any, said: str) -> None:
    found = problems({name: value})
    assert list(found) == [name]
    assert said in found[name]


@pytest.mark.parametrize("name", [*sorted(RESERVED), "webhook-id", "Webhook-Signature", "notifier-attempt", "HOST"])
def test_headers_that_are_not_the_merchants_are_reserved_whatever_their_case(name: str) -> None:
    assert "is reserved" in problems({"headers": {name: "1"}})["headers"]
    assert "is reserved" in problems({"headers": {name.title(): "1"}})["headers"]


def test_every_wrong_field_is_told_at_once() -> None:
    found = problems({"url": "x", "rate": 0, "colour": "red", "concurrency": 5})
    assert list(found) == ["url", "rate", "'colour'"]
    assert "possible are url, ladder, ack, concurrency, rate, headers, secret" in found["'colour'"]


def test_no_sentence_repeats_a_secret_or_the_value_of_a_header() -> None:
    found = problems({"secret": "whsec_hunter2", "headers": {"Authorization": "Bearer hunter2\n"}})
    assert list(found) == ["secret", "headers"]
    assert "hunter2" not in str(found)


def test_where_no_secret_belongs_it_is_pointed_at_rotate() -> None:
    assert "rotate" in problems({"secret": SECRET}, secret=False)["secret"]


def test_what_was_stated_shows_neither_secret_nor_headers() -> None:
    statement = stated({"secret": SECRET, "headers": {"X-Key": "hunter2"}}, LADDERS, CONFIGURED, ANY_URL, secret=True)
    assert statement.secret == Secret.parse(SECRET)
    assert "hunter2" not in repr(statement)
    assert SECRET not in repr(statement)


BEFORE = (("X-Key", "old"), ("X-Shop", "7"))


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({}, BEFORE),
        ({"X-More": "1"}, (*BEFORE, ("X-More", "1"))),
        ({"x-key": "new"}, (("x-key", "new"), ("X-Shop", "7"))),
        ({"X-KEY": None}, (("X-Shop", "7"),)),
        ({"X-Missing": None}, BEFORE),
        ({"X-Key": MASKED}, BEFORE),
        (None, ()),
    ],
    ids=["nothing", "added", "replaced", "taken away", "was not there", "masked stays", "all away"],
)
def test_stated_headers_are_laid_over_those_there_were(headers: Any, after: Any) -> None:
    assert stated({"headers": headers}, LADDERS, CONFIGURED, ANY_URL, secret=False).headers_over(BEFORE) == after


@pytest.mark.parametrize(
    ("headers", "before", "said"),
    [
        ({"X-New": MASKED}, (), "X-New has no value yet"),
        ({"X-21": "1"}, tuple((f"X-{n}", "1") for n in range(20)), "would be 21"),
        ({f"X-{n}": "x" * 2000 for n in range(4)}, (), f"at most {MOST_OF_HEADERS}"),
    ],
)
def test_headers_that_do_not_fit_together_are_refused(headers: Any, before: Any, said: str) -> None:
    statement = stated({"headers": headers}, LADDERS, CONFIGURED, ANY_URL, secret=False)
    with pytest.raises(InvalidMerchant, match=said):
        statement.headers_over(before)
