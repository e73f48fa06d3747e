"""What a notification may consist of, how late it is, and how it climbs."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain import notification as rules
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.tier import Tier
from notifier.errors import InvalidNotification

NOW = 1_800_000_000_000


def a_notification(**fields: object) -> Notification:
    return replace(Notification(id="ntf_1", merchant="m1", payload=b"{}"), **fields)  # type: ignore[arg-type]  # tables


@pytest.mark.parametrize("text", ["a", "ntf_0123-XYZ", "-", "_", "0" * 128, "4f9619ff-8b86-d011-b42d-00c04fc964ff"])
def test_an_id_is_1_to_128_letters_digits_underscores_and_dashes(text: str) -> None:
    assert rules.check_id(text) == text
    assert rules.is_id(text)


@pytest.mark.parametrize("text", ["", "a b", "a.b", "a/b", "é", "a\n", "\n", "0" * 129, "{uuid}", "٣"])
def test_any_other_id_is_refused_naming_it(text: str) -> None:
    assert not rules.is_id(text)
    with pytest.raises(InvalidNotification, match="1 to 128 characters"):
        rules.check_id(text)


def test_fresh_ids_are_ids_and_differ() -> None:
    some = {rules.fresh_id() for _ in range(100)}
    assert len(some) == 100
    assert all(rules.is_id(one) and len(one) == len("ntf_") + 128 / 4 for one in some)


@pytest.mark.parametrize("text", ["m1", "Café Zürich", "a:b/c", "42", "商户", "x" * 128])
def test_a_merchant_id_is_nearly_any_text(text: str) -> None:
    assert rules.check_merchant(text) == text


@pytest.mark.parametrize("text", ["", " ", " m", "m ", "a\nb", "a\x00b", "a\x9bb", "\x7f", "x" * 129, "half \ud83d"])
def test_a_merchant_id_that_cannot_be_sent_or_shown_is_refused(text: str) -> None:
    with pytest.raises(InvalidNotification, match="merchant id"):
        rules.check_merchant(text)


@pytest.mark.parametrize("text", [".", "..", "../x", "x/..", "x/../y", "./x", "x/.", "x/./y", "/..", "../"])
def test_a_merchant_id_that_no_http_path_can_name_is_refused_where_it_enters(text: str) -> None:
    with pytest.raises(InvalidNotification, match=r"may be \. or \.\., since no HTTP path can name such a merchant"):
        rules.check_merchant(text)
    assert rules.check_known_merchant(text) == text


@pytest.mark.parametrize("text", ["...", "x..", "..x", "x/..y/z", "x/y..", "a.b", "%2e%2e", "x\\..\\y"])
def test_dots_that_are_no_part_of_their_own_may_stand_in_a_merchant_id(text: str) -> None:
    assert rules.check_merchant(text) == text


@pytest.mark.parametrize("text", ["", "a\nb", "x" * 257, "\udc00"])
def test_a_reference_that_cannot_be_sent_or_shown_is_refused(text: str) -> None:
    with pytest.raises(InvalidNotification, match="reference"):
        rules.check_reference(text)


@pytest.mark.parametrize(("length", "shown"), [(80, "'" + "." * 80 + "'"), (81, "'" + "." * 77 + "…'")])
def test_a_long_text_is_shown_cut(length: int, shown: str) -> None:
    with pytest.raises(InvalidNotification) as refused:
        rules.check_id("." * length)
    assert str(refused.value).startswith(f"{shown} is not a notification id")


@pytest.mark.parametrize("text", ["order 42", "x" * 256, "订单/42"])
def test_a_reference_is_nearly_any_text(text: str) -> None:
    assert rules.check_reference(text) == text


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/paid",
        "http://127.0.0.1:9000",
        "HTTPS://shop.example",
        "http://[::1]:8080/x?y=z#w",
        "https://shop.example:65535/",
        "https://shop.example/a@b",
        "https://bücher.example/ü",
        "http://host:/",
        "https://h/" + "x" * 2038,
    ],
)
def test_an_absolute_http_url_with_a_host_is_accepted(url: str) -> None:
    assert rules.check_url(url) == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must start with https://"),
        ("shop.example/paid", "must start with https://"),
        ("//shop.example/paid", "must start with https://"),
        ("ftp://shop.example/", "must start with https://"),
        ("javascript:alert(1)", "must start with https://"),
        ("amqp://shop.example/", "must start with https://"),
        ("https://", "names no host"),
        ("https:///paid", "names no host"),
        ("http://:80/", "names no host"),
        ("https://user@shop.example/", "user name or password"),
        ("https://user:secret@shop.example/", "user name or password"),
        ("https://@shop.example/", "user name or password"),
        ("https://shop.example:0/", "port 0"),
        ("https://shop.example:65536/", "not a url"),
        ("https://shop.example:x/", "not a url"),
        ("https://[::1/", "not a url"),
        ("https://shop .example/", "a blank"),
        ("https://shop.example/\n", "a control character"),
        ("https://shop.example\\@evil.example/", "a backslash"),
        ("https://shop.example/\ud800", "unpaired surrogate"),
        ("https://h/" + "x" * 2039, "at most 2048"),
    ],
)
def test_any_other_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(InvalidNotification) as refused:
        rules.check_url(url)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "url", ["https://u:hunter2@h/", "ftp://u:hunter2@h/", "https://u:hunter2@h:x/", "http://u:hunter2@h/ "]
)
def test_a_refused_url_does_not_repeat_its_password(url: str) -> None:
    with pytest.raises(InvalidNotification) as refused:
        rules.check_url(url)
    assert "hunter2" not in str(refused.value)


@given(st.text())
def test_checking_any_text_either_returns_it_or_says_what_is_wrong(text: str) -> None:
    for check in (rules.check_id, rules.check_merchant, rules.check_reference, rules.check_url):
        with contextlib.suppress(InvalidNotification):
            assert check(text) == text
            text.encode()  # what was accepted can be sent


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Evil: 1", False),
        ("", False),
    ],
)
def test_only_a_w3c_traceparent_is_passed_on(text: str, is_one: bool) -> None:
    assert rules.is_traceparent(text) is is_one


@pytest.mark.parametrize(
    ("due_at", "late"),
    [
        (NOW, 0),
        (NOW - 25, 25),
        (NOW - 3_600_000, 3_600_000),
        (NOW - 63 * 86_400_000, 63 * 86_400_000),
        (None, None),
        (NOW + 1, None),
        (NOW - 63 * 86_400_000 - 1, None),
        (1, None),
        (NOW * 1000, None),
    ],
)
def test_lateness_is_measured_where_the_due_moment_is_plausible(due_at: int | None, late: float | None) -> None:
    assert a_notification(due_at=due_at).lateness(NOW) == late


def test_climbing_counts_the_attempt_and_is_due_after_the_delay_of_the_tier() -> None:
    ladder = Ladder.parse("1s,3s")
    climbed = a_notification(run=2, enqueued_at=7, reference="r", extra={"x": 1}).climbing(ladder, Tier(3), 1, NOW)
    assert climbed == a_notification(
        run=2, enqueued_at=7, reference="r", extra={"x": 1}, ladder=ladder, step=1, attempt=2, due_at=NOW + 3000
    )


def test_climbing_states_when_it_was_first_seen_if_nobody_said_when_it_was_enqueued() -> None:
    assert a_notification().climbing(Ladder.parse("1s"), Tier(1), 0, NOW).enqueued_at == NOW
