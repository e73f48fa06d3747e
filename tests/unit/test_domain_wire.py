"""A notification as a message: what any AMQP client may write, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from notifier.domain import wire
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.wire import Message
from notifier.errors import UnreadableMessage

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def message(headers: Mapping[str, object] | None = None, **properties: object) -> Message:
    bare = Message(b'{"paid":true}', {"merchant": "m1", **(headers or {})}, "application/json", "msg-1")
    return replace(bare, **properties)  # type: ignore[arg-type]  # tables


# The least a producer must send


def test_a_message_with_only_a_merchant_is_a_notification() -> None:
    assert wire.read(message()) == Notification(id="msg-1", merchant="m1", payload=b'{"paid":true}')


def test_a_message_with_every_header_is_read_whole() -> None:
    read = wire.read(
        message(
            {
                "v": 1,
                "notification": "ntf_7",
                "url": "https://shop.example/paid",
                "ladder": "1s,90s",
                "step": 1,
                "attempt": 4,
                "run": 2,
                "enqueued-at": 1_800_000_000_000,
                "due-at": 1_800_000_003_000,
                "reference": "order 42",
                "traceparent": TRACE,
                "x-mine": [1, {"a": None}],
            }
        )
    )
    assert read == Notification(
        id="ntf_7",
        merchant="m1",
        payload=b'{"paid":true}',
        url="https://shop.example/paid",
        ladder=Ladder.parse("1s,1m30s"),
        step=1,
        attempt=4,
        run=2,
        enqueued_at=1_800_000_000_000,
        due_at=1_800_000_003_000,
        reference="order 42",
        traceparent=TRACE,
        extra={"x-mine": [1, {"a": None}]},
    )


# Where the id comes from


@pytest.mark.parametrize(
    ("headers", "correlation_id", "message_id", "identity"),
    [
        ({"notification": "ntf_7"}, "c-1", "m-1", "ntf_7"),
        ({"notification": b"ntf_7"}, "c-1", "m-1", "ntf_7"),
        ({"notification": bytearray(b"ntf_7")}, None, None, "ntf_7"),
        ({"notification": 42}, None, None, "42"),
        ({"notification": None}, "c-1", "m-1", "c-1"),
        ({}, "c-1", "m-1", "c-1"),
        ({}, None, "m-1", "m-1"),
        ({}, "", "m-1", "m-1"),
        ({}, "not an id", "m-1", "m-1"),
        ({}, "a.b", "c/d", None),
        ({}, "", "", None),
        ({}, None, None, None),
    ],
)
def test_the_id_is_the_header_else_the_correlation_id_else_the_message_id(
    headers: dict[str, object], correlation_id: str | None, message_id: str | None, identity: str | None
) -> None:
    found = wire.identity(message(headers, correlation_id=correlation_id, message_id=message_id))
    assert found == identity


@pytest.mark.parametrize("stated", ["", "a b", "a.b", "x" * 129, b"\xff\xfe", True, 1.5, ["a"], {"a": 1}])
def test_an_id_header_that_cannot_be_an_id_is_unreadable_even_beside_good_fallbacks(stated: object) -> None:
    with pytest.raises(UnreadableMessage, match="'notification'"):
        wire.identity(message({"notification": stated}, correlation_id="c-1"))


def test_a_message_without_any_id_is_not_a_notification_until_it_is_stamped() -> None:
    anonymous = message({"x-mine": 1, "x-death": [{"count": 1}]}, message_id=None, correlation_id=None)
    with pytest.raises(UnreadableMessage, match="no notification id"):
        wire.read(anonymous)
    stamped = wire.stamped(anonymous, "ntf_9", "msg-2")
    assert stamped.message_id == "msg-2"
    assert stamped.body == anonymous.body
    assert stamped.headers == {"merchant": "m1", "notification": "ntf_9", "x-mine": 1}
    assert wire.read(stamped).id == "ntf_9"


# Headers that are missing


@pytest.mark.parametrize(
    ("header", "field", "value"),
    [
        ("url", "url", None),
        ("ladder", "ladder", None),
        ("step", "step", 0),
        ("attempt", "attempt", 1),
        ("run", "run", 0),
        ("enqueued-at", "enqueued_at", None),
        ("due-at", "due_at", None),
        ("reference", "reference", None),
        ("traceparent", "traceparent", None),
    ],
)
@pytest.mark.parametrize("void", [True, False], ids=["void", "absent"])
def test_every_header_but_the_merchant_may_be_absent_or_void(
    header: str, field: str, value: object, void: bool
) -> None:
    assert getattr(wire.read(message({header: None} if void else {})), field) == value


def test_the_attempt_follows_from_the_step_if_only_that_is_given() -> None:
    assert wire.read(message({"step": 3})).attempt == 4


@pytest.mark.parametrize("merchant", [".", "..", "x/../y"])
def test_a_merchant_that_may_not_enter_any_more_is_still_delivered_when_it_is_under_way(merchant: str) -> None:
    under_way = wire.read(message({"merchant": merchant}))
    assert under_way.merchant == merchant
    assert wire.read(wire.write(under_way, "msg-2")) == under_way


@pytest.mark.parametrize("merchant", [None, "", " m1", "a\nb", True, 1.5, b"\xff", ["m1"], {"m": 1}, "x" * 129])
def test_a_message_without_a_usable_merchant_is_unreadable(merchant: object) -> None:
    with pytest.raises(UnreadableMessage, match="merchant"):
        wire.read(message({"merchant": merchant}))


def test_a_merchant_that_is_kept_as_a_number_is_read_as_text() -> None:
    assert wire.read(message({"merchant": 1234})).merchant == "1234"


# Values


@pytest.mark.parametrize("number", [0, 1, 127, 255, 32_767, 65_535, 2**31 - 1])
@pytest.mark.parametrize("header", ["step", "run"])
def test_integers_of_any_width_are_read(header: str, number: int) -> None:
    assert getattr(wire.read(message({header: number})), header) == number


@pytest.mark.parametrize("header", ["v", "step", "attempt", "run"])
@pytest.mark.parametrize(
    "value", [-1, 2**31, "1", b"1", True, 1.0, Decimal(1), [1], {}, datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_a_count_that_is_no_whole_number_is_unreadable_naming_the_header(header: str, value: object) -> None:
    with pytest.raises(UnreadableMessage, match=f"'{header}'"):
        wire.read(message({header: value}))


@pytest.mark.parametrize("header", ["attempt", "v"])
def test_attempts_and_versions_count_from_one(header: str) -> None:
    with pytest.raises(UnreadableMessage, match="1 or more"):
        wire.read(message({header: 0}))


def test_a_newer_wire_version_is_unreadable_and_says_what_to_do() -> None:
    with pytest.raises(UnreadableMessage, match="update it, then requeue"):
        wire.read(message({"v": 2}))


@pytest.mark.parametrize("header", ["enqueued-at", "due-at"])
@pytest.mark.parametrize(
    "value", [0, -1, "soon", b"1", True, 1.5, 10**18, 2**63 - 1, [1], datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_a_moment_that_cannot_be_one_costs_the_measurement_not_the_delivery(header: str, value: object) -> None:
    read = wire.read(message({header: value}))
    assert read.enqueued_at is None
    assert read.due_at is None
    assert header not in wire.write(read, "m").headers


@pytest.mark.parametrize("value", [1, 32_503_679_999_999])
def test_a_moment_of_this_millennium_is_read(value: int) -> None:
    assert wire.read(message({"due-at": value})).due_at == value
    assert wire.read(message({"due-at": 32_503_680_000_000})).due_at is None


@pytest.mark.parametrize("value", ["nonsense", b"\xff", 5, True, [TRACE], TRACE.upper()])
def test_a_trace_context_that_is_none_is_dropped_not_refused(value: object) -> None:
    assert wire.read(message({"traceparent": value})).traceparent is None


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("url", "shop.example", "https://"),
        ("url", "https://u:p@shop.example", "user name or password"),
        ("url", "", "https://"),
        ("url", 5, "https://"),
        ("url", b"\xff", "'url' must be UTF-8 text"),
        ("url", ["https://shop.example"], "'url' must be UTF-8 text"),
        ("ladder", "1s,oops", "tier 2"),
        ("ladder", "", "not a ladder"),
        ("ladder", 5, "not a tier"),
        ("ladder", {"1s": 1}, "'ladder' must be UTF-8 text"),
        ("ladder", "1s " * 100_000, "too long"),
        ("reference", "x" * 257, "not a reference"),
        ("reference", "a\x00b", "not a reference"),
        ("reference", Decimal("1.5"), "'reference' must be UTF-8 text"),
    ],
)
def test_a_header_that_cannot_be_used_is_unreadable_with_the_reason(header: str, value: object, reason: str) -> None:
    with pytest.raises(UnreadableMessage) as unreadable:
        wire.read(message({header: value}))
    assert reason in str(unreadable.value)
    assert len(str(unreadable.value)) < 400


def test_text_may_come_as_bytes() -> None:
    read = wire.read(message({"merchant": b"m\xc3\xbcller", "url": bytearray(b"https://h/"), "ladder": b"1s"}))
    assert (read.merchant, read.url, str(read.ladder)) == ("müller", "https://h/", "1s")


def test_a_ladder_of_tiers_nobody_serves_is_read() -> None:
    assert str(wire.read(message({"ladder": "7s"})).ladder) == "7s"


@pytest.mark.parametrize(("size", "readable"), [(10, True), (11, False)])
def test_a_body_over_the_limit_is_unreadable(size: int, readable: bool) -> None:
    carrier = message(body=b"x" * size)
    if readable:
        assert wire.read(carrier, most_payload=10).payload == carrier.body
    else:
        with pytest.raises(UnreadableMessage, match="holds 11 bytes; at most 10"):
            wire.read(carrier, most_payload=10)


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        ("text/xml; charset=utf-8", "text/xml; charset=utf-8"),
        (None, "application/json"),
        ("", "application/json"),
        ("text/plain\r\nX-Evil: 1", "application/json"),
        ("tëxt/plain", "application/json"),
        ("x" * 128, "x" * 128),
        ("x" * 129, "application/json"),
    ],
)
def test_the_content_type_is_the_producers_if_it_can_stand_in_a_header(stated: str | None, read: str) -> None:
    assert wire.read(message(content_type=stated)).content_type == read


# What is kept and what is not


@pytest.mark.parametrize(
    "header",
    [
        "x-death",
        "x-death-2",
        "x-first-death-exchange",
        "x-first-death-queue",
        "x-first-death-reason",
        "x-last-death-exchange",
        "x-last-death-queue",
        "x-last-death-reason",
        "x-delay",
        "CC",
        "BCC",
        "x-delivery-count",
    ],
)
def test_what_the_broker_wrote_on_the_way_is_never_copied(header: str) -> None:
    carrier = message({header: -5000, "x-mine": 1})
    for republished in (wire.write(wire.read(carrier), "m"), wire.stamped(carrier, "ntf_1", "m")):
        assert header not in republished.headers
        assert republished.headers["x-mine"] == 1


@pytest.mark.parametrize("header", ["x-mine", "cc", "X-Death", "x-exchange", "trace-id", "é", "x-max-priority"])
def test_unknown_headers_are_kept(header: str) -> None:
    value = {"nested": [1, "two", None, 1.5, Decimal("2.5"), datetime(2026, 1, 1, tzinfo=UTC)]}
    assert wire.write(wire.read(message({header: value})), "m").headers[header] == value


def test_text_that_is_not_utf8_is_kept_in_the_form_that_a_client_can_write_again() -> None:
    kept = wire.write(wire.read(message({"x-mine": b"\xff", "x-deep": {"a": [b"\xfe"]}})), "m").headers
    assert kept["x-mine"] == bytearray(b"\xff")
    assert type(kept["x-mine"]) is bytearray
    assert type(kept["x-deep"]["a"][0]) is bytearray  # type: ignore[index]  # a header's value is any object


def test_an_unknown_header_cannot_take_the_place_of_a_known_one() -> None:
    forged = Notification(id="a", merchant="m", payload=b"", extra={"merchant": "other", "notification": "b", "v": 9})
    assert wire.read(wire.write(forged, "m")).merchant == "m"
    assert wire.read(wire.write(forged, "m")).id == "a"


def test_what_is_written_says_its_version_and_leaves_out_what_is_not_known() -> None:
    written = wire.write(Notification(id="ntf_1", merchant="m1", payload=b"x", content_type="text/plain"), "msg-2")
    assert written == Message(
        b"x",
        {"v": 1, "notification": "ntf_1", "merchant": "m1", "step": 0, "attempt": 1, "run": 0},
        "text/plain",
        "msg-2",
    )


def test_the_essential_headers_are_short_texts_that_say_whose_message_it_is() -> None:
    headers = {"merchant": "m1", "url": "x" * 2048, "reference": "x" * 2049, "notification": 7, "x-mine": "y"}
    assert wire.essential(headers) == {"merchant": "m1", "url": "x" * 2048}


def test_a_message_whose_headers_cannot_be_decoded_is_unreadable_in_spite_of_its_message_id() -> None:
    with pytest.raises(UnreadableMessage, match="cannot be decoded"):
        wire.read(message({wire.UNDECODABLE: bytearray(b"\x05")}))
