"""Frames: what goes in comes out, and nothing else gets through."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.errors import BadFrame
from notifier.supervision import frames

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def fed(*pieces: bytes, end: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    if end:
        reader.feed_eof()
    return reader


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@given(st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=4))
def test_messages_come_out_as_they_went_in_and_then_the_end(messages: list[dict[str, Any]]) -> None:
    async def crossed() -> list[dict[str, Any] | None]:
        reader = fed(*(frames.encode(message) for message in messages))
        return [await frames.read(reader) for _ in range(len(messages) + 1)]

    assert asyncio.run(crossed()) == [*messages, None]


def test_a_frame_is_its_length_in_four_bytes_and_json() -> None:
    assert frames.encode({"a": "ü"}) == struct.pack(">I", 14) + b'{"a":"\\u00fc"}'


async def test_a_message_of_exactly_one_mebibyte_passes_and_one_byte_more_does_not() -> None:
    overhead = len(json.dumps({"a": ""}, separators=(",", ":")))
    fits = {"a": "x" * (frames.LIMIT - overhead)}
    assert await frames.read(fed(frames.encode(fits))) == fits
    with pytest.raises(BadFrame, match="1048577 bytes is too long"):
        frames.encode({"a": "x" * (frames.LIMIT - overhead + 1)})


async def test_the_length_is_judged_before_the_body_is_there() -> None:
    with pytest.raises(BadFrame, match="a frame of 1048577 bytes was announced"):
        await frames.read(fed(struct.pack(">I", frames.LIMIT + 1), end=False))


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        pytest.param(b"\x00\x00", "ended inside a frame", id="cut inside the length"),
        pytest.param(framed(b'{"a":1}')[:-1], "ended inside a frame", id="cut inside the body"),
        pytest.param(struct.pack(">I", 7), "ended inside a frame", id="cut before the body"),
        pytest.param(framed(b""), "not JSON", id="empty"),
        pytest.param(framed(b"hello"), "not JSON", id="text"),
        pytest.param(framed(b"\xff\xfe\xfd"), "not JSON", id="not UTF-8"),
        pytest.param(framed(b"[1]"), "holds a list", id="a list"),
        pytest.param(framed(b"null"), "holds a NoneType", id="null"),
        pytest.param(framed(b"[" * 100_000), "not JSON", id="brackets without end"),
        pytest.param(framed(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON", id="a number without end"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "1195725856 bytes was announced", id="another protocol"),
    ],
)
async def test_what_is_no_frame_is_refused(sent: bytes, complaint: str) -> None:
    with pytest.raises(BadFrame, match=complaint):
        await frames.read(fed(sent))


@pytest.mark.parametrize("value", [float("nan"), b"bytes", object()], ids=["nan", "bytes", "object"])
def test_what_json_cannot_hold_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(BadFrame, match="cannot be written as JSON"):
        frames.encode({"a": value})
