"""Properties and headers as any AMQP client may write them: read without harm, and written again as they were.

A header frame that cannot be decoded ends the connection it comes by, and every one after that.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.header import ContentHeader

from notifier.broker import connection  # noqa: F401  # amends pamqp, as every process of ours that speaks AMQP does
from notifier.domain import wire
from notifier.domain.wire import UNDECODABLE, Message
from notifier.errors import UnreadableMessage

_HEADERS, _CORRELATION_ID, _MESSAGE_ID, _TIMESTAMP = 1 << 13, 1 << 10, 1 << 7, 1 << 6


def table(*fields: tuple[bytes, bytes]) -> bytes:
    """A field table: names, and values with their type in front."""
    content = b"".join(bytes([len(name)]) + name + value for name, value in fields)
    return struct.pack(">I", len(content)) + content


def long_string(value: bytes) -> bytes:
    return b"S" + struct.pack(">I", len(value)) + value


def short_string(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = b"A" + struct.pack(">I", len(value)) + value
    return value


def read(flags: int, content: bytes) -> commands.Basic.Properties:
    """What becomes of a header frame as it comes from the broker."""
    payload = struct.pack(">HHQH", 60, 0, 0, flags) + content
    _, _, header = frame.unmarshal(struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce")
    assert isinstance(header, ContentHeader)
    return header.properties


def written(headers: dict[str, Any]) -> dict[str, Any]:
    """Headers after a way to the broker and back."""
    header = ContentHeader(properties=commands.Basic.Properties(headers=headers))
    _, _, again = frame.unmarshal(frame.marshal(header, 1))
    assert isinstance(again, ContentHeader)
    return again.properties.headers or {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"T" + struct.pack(">Q", 1_800_000_000), datetime(2027, 1, 15, 8, tzinfo=UTC)),
        (b"T" + struct.pack(">Q", 1_800_000_000_123), 1_800_000_000_123),
        (b"T" + struct.pack(">Q", 1_800_000_000_123_456), 1_800_000_000_123_456),
        (b"T" + struct.pack(">Q", 2**64 - 1), -1),
        (b"d" + struct.pack(">d", 3.141592653589793), 3.141592653589793),
        (b"d" + struct.pack(">d", 1e300), 1e300),
        (b"f" + struct.pack(">f", 0.5), 0.5),
        (b"D\x02" + struct.pack(">i", -5), Decimal("-0.05")),
        (b"l" + struct.pack(">q", -(2**63)), -(2**63)),
        (b"S" + struct.pack(">I", 4) + b"caf\xe9", b"caf\xe9"),
        (b"x" + struct.pack(">I", 2) + b"\x00\xff", bytearray(b"\x00\xff")),
        (b"V", None),
        (b"F" + table((b"caf\xe9", b"t\x01")), {"caf?": True}),
        (nested(3), [[[]]]),
    ],
)
def test_a_foreign_header_is_read_and_written_again_as_it_was(field: bytes, value: object) -> None:
    headers = read(_HEADERS, table((b"x-theirs", field))).headers
    assert headers == {"x-theirs": value}
    sendable = wire.portable(headers)
    assert written(sendable) == sendable


@pytest.mark.parametrize(
    "moment", [0, 1_800_000_000, 1_800_000_000_123, 1_800_000_000_123_456, 2**63, 2**64 - 1], ids=str
)
def test_a_timestamp_in_any_unit_does_no_harm(moment: int) -> None:
    assert read(_TIMESTAMP, struct.pack(">Q", moment)).timestamp is not None


@pytest.mark.parametrize("flag", [_MESSAGE_ID, _CORRELATION_ID])
def test_an_id_in_another_encoding_does_no_harm_and_becomes_no_longer(flag: int) -> None:
    properties = read(flag, short_string(b"caf\xe9" * 60))
    (text,) = {properties.message_id, properties.correlation_id} - {None}
    assert text == "caf?" * 60
    assert wire.fallback_id(Message(b"", message_id=text)) is None


def test_a_header_name_in_another_encoding_does_no_harm() -> None:
    headers = read(_HEADERS, table((b"caf\xe9", b"t\x01"), (b"merchant", long_string(b"m1")))).headers
    assert headers == {"caf?": True, "merchant": "m1"}


@pytest.mark.parametrize(
    "fields",
    [
        table((b"deep", nested(20_000))),
        table((b"unknown", b"Z\x00")),
        table((b"short", b"S" + struct.pack(">I", 1000) + b"x")),
        struct.pack(">I", 3) + b"\xffab",
        table((b"number", b"D\xff")),
    ],
    ids=["nested too deep", "unknown type", "longer than it is", "cut name", "cut value"],
)
def test_headers_that_cannot_be_decoded_are_kept_as_bytes_and_told_as_the_reason(fields: bytes) -> None:
    headers = read(_HEADERS, fields).headers
    assert headers == {UNDECODABLE: bytearray(fields[4:])}
    assert written(headers) == headers
    with pytest.raises(UnreadableMessage, match="headers cannot be decoded"):
        wire.identity(Message(b"", headers))


_numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
_names = st.text(max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(max_size=50) | st.binary(max_size=50).map(bytearray),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(_names, _values, max_size=5))
def test_all_headers_that_can_be_written_come_back_equal(headers: dict[str, Any]) -> None:
    assert written(headers) == headers


@given(st.binary(max_size=200))
def test_no_bytes_in_the_place_of_headers_end_the_connection(content: bytes) -> None:
    fields = struct.pack(">I", len(content)) + content
    headers = read(_HEADERS, fields).headers
    assert isinstance(headers, dict)
