"""What crosses a pipe: a length, then one JSON object.

A frame is an unsigned 32-bit big-endian length followed by that many bytes of UTF-8 JSON, at most 1 MiB. The length is
judged before a byte of the body is read, so no peer can make the other one reserve memory.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any

from notifier.errors import BadFrame

#: Longest body of a frame, bytes.
LIMIT = 1024 * 1024

_LENGTH = struct.Struct(">I")


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of `message`. Raises BadFrame if it is too long or holds what JSON cannot."""
    try:
        body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadFrame(f"a message cannot be written as JSON: {error}") from None
    if len(body) > LIMIT:
        raise BadFrame(f"a message of {len(body)} bytes is too long for a frame: at most {LIMIT} are possible")
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message, or None at an end of file between two frames.

    Raises BadFrame for a frame that is too long, cut short or no JSON object, ConnectionError when the peer reset.
    """
    head = await _exactly(reader, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > LIMIT:
        raise BadFrame(f"a frame of {length} bytes was announced: at most {LIMIT} are possible")
    body = await _exactly(reader, length)
    if body is None and length:
        raise BadFrame("the pipe ended inside a frame")
    return _decode(body or b"")


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes | None:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise BadFrame("the pipe ended inside a frame") from None
        return None


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError, and brackets nested without end
        raise BadFrame(f"a frame is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise BadFrame(f"a frame holds a {type(message).__name__} instead of a JSON object")
    return message
