"""The wire form for all notifications, and for all messages that might arrive."""

from __future__ import annotations

from datetime import UTC

from hypothesis import example, given
from hypothesis import strategies as st

from notifier.domain import wire
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.tier import LONGEST, Tier
from notifier.domain.wire import Message
from notifier.errors import UnreadableMessage

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

_counts = st.integers(0, 2**31 - 1)
_moments = st.none() | st.integers(1, 4_000_000_000_000)
_texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=128)
_header_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
    | st.text()
    | st.binary()
    | st.binary().map(bytearray)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_comparable = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()

notifications = st.builds(
    Notification,
    id=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
    merchant=_texts.filter(lambda text: text == text.strip()),
    payload=st.binary(),
    content_type=st.sampled_from(["application/json", "text/plain; charset=utf-8"]),
    url=st.none() | st.sampled_from(["https://shop.example/paid?a=b", "http://127.0.0.1:8080"]),
    ladder=st.none()
    | st.lists(st.integers(0, LONGEST).map(Tier), min_size=1, max_size=64).map(lambda t: Ladder(tuple(t))),
    step=_counts,
    attempt=st.integers(1, 2**31 - 1),
    run=_counts,
    enqueued_at=_moments,
    due_at=_moments,
    reference=st.none() | _texts,
    traceparent=st.none() | st.just(TRACE),
    extra=st.dictionaries(st.text(min_size=1).map(lambda name: f"x-my-{name}"), _comparable, max_size=4),
)


@given(notifications)
def test_reading_what_was_written_gives_the_same_notification(notification: Notification) -> None:
    assert wire.read(wire.write(notification, "msg-1")) == notification


_known = ["v", "notification", "merchant", "url", "ladder", "step", "attempt", "run", "enqueued-at", "due-at"]
_known += ["reference", "traceparent", "x-death", "x-delay", "CC"]


@given(
    st.dictionaries(st.sampled_from(_known) | st.text(), _header_values | st.text(max_size=40) | _counts),
    st.binary(max_size=40),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
)
@example({"merchant": "m", "ladder": "9" * 5000 + "s"}, b"", None, None, "m")
@example({"merchant": "m", "url": "https://[/"}, b"", None, None, "m")
@example({"merchant": "m", "url": "https://\u2100.example/"}, b"", None, None, "m")
def test_whatever_arrives_is_a_notification_or_unreadable_and_nothing_else_happens(
    headers: dict[str, object],
    body: bytes,
    content_type: str | None,
    correlation_id: str | None,
    message_id: str | None,
) -> None:
    carrier = Message(body, headers, content_type, message_id, correlation_id)
    try:
        read = wire.read(carrier, most_payload=30)
    except UnreadableMessage as unreadable:
        assert str(unreadable)  # noqa: PT017  either way is right, each with its own check
    else:
        assert wire.read(wire.write(read, "m")).id == read.id
