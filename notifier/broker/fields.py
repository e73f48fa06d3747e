"""What other clients may write into properties and headers, and pamqp, which aiormq speaks AMQP with, cannot handle.

A message that cannot be decoded ends the connection it came by, is delivered again by the next one, and so stops a
whole tier: a timestamp in microseconds, or a name in Latin-1, from any producer. And what was decoded must be written
again as it was, since headers that notifier does not know are kept. pamqp offers no other place than its own tables.
"""

from __future__ import annotations

import datetime
import struct
from typing import Any

from pamqp import decode, encode

from notifier.domain.wire import UNDECODABLE

_LAST_SECOND = 0xFFFF_FFFF
_pamqp_encode = encode.encode_table_value


def install() -> None:
    """Amend pamqp's tables for this process. Twice is fine."""
    decode.METHODS.update({"shortstr": _short_string, "timestamp": _timestamp, "table": _headers})
    decode.TABLE_MAPPING.update({b"T": _timestamp, b"F": _table})
    encode.encode_table_value = _encoded


def _timestamp(value: bytes) -> tuple[int, Any]:
    """Seconds are a moment; what cannot be seconds stays a number, since its unit is the producer's secret."""
    (seconds,) = struct.unpack(">Q", value[:8])
    if seconds > _LAST_SECOND:
        return 8, seconds if seconds < 2**63 else seconds - 2**64
    return 8, datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def _short_string(value: bytes) -> tuple[int, str]:
    end = value[0] + 1
    return end, _text(value[1:end])


def _headers(value: bytes) -> tuple[int, dict[str, Any]]:
    """The table of a message's headers; as one header of bytes when it is beyond us (nested a thousand deep, say)."""
    try:
        return _table(value)
    except (ValueError, KeyError, IndexError, struct.error, ArithmeticError, RecursionError):
        end = struct.unpack(">I", value[:4])[0] + 4
        return end, {UNDECODABLE: bytearray(value[4:end])}


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    end = struct.unpack(">I", value[:4])[0] + 4
    if end > len(value):
        raise ValueError("a table is longer than what holds it")
    place, table = 4, {}
    while place < end:
        size, name = _short_string(value[place:end])
        place += size
        size, table[name] = decode.embedded_value(value[place:end])
        place += size
    if place > end:
        raise ValueError("a value is longer than the table that holds it")
    return end, table


def _text(value: bytes) -> str:
    """A short string is UTF-8 by specification; other bytes become question marks, so that it is never longer."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 128 else "?" for byte in value)


def _encoded(value: Any) -> bytes:
    """Numbers with a fraction in full length: pamqp writes 4 of their 8 bytes, and fails where those do not suffice."""
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    return _pamqp_encode(value)
