"""JSON as a producer wrote it: what is to be paid reaches the merchant as it was written, 10.00 and not 10.0."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from notifier.api.problems import Problem

#: Half a surrogate pair has no UTF-8; its escape is what can be sent.
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that no float says as it was written: 10.00, 1e400, an amount of twenty digits."""

    text: str


def parsed(body: bytes) -> Any:
    """The JSON value in a body. Raises Problem saying where it is none."""
    try:
        return _decoder.decode(body.decode())
    except UnicodeDecodeError as error:
        raise Problem("malformed", f"the body is not UTF-8: byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise Problem("malformed", f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise Problem("malformed", "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem("malformed", f"the body is not JSON: {error}") from None  # a number of thousands of digits


def written(value: Any) -> bytes:
    """The value as compact JSON in UTF-8. Raises Problem if it is nested too deeply."""
    try:
        text = _text(value)
    except RecursionError:
        raise Problem("invalid", "the payload is nested too deeply") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except TypeError:  # a Number is in it
        return _written(value)


def _written(value: Any) -> str:
    """As json.dumps does, but slower, with the numbers that it cannot write."""
    match value:
        case Number(text):
            return text
        case dict():
            members = (f"{json.dumps(name, ensure_ascii=False)}:{_written(of)}" for name, of in value.items())
            return "{" + ",".join(members) + "}"
        case list():
            return f"[{','.join(map(_written, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _number(text: str) -> float | Number:
    number = float(text)
    return number if repr(number) == text else Number(text)


def _whole_number(text: str) -> int | Number:
    return Number(text) if text == "-0" else int(text)


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(parse_float=_number, parse_int=_whole_number, parse_constant=_refused)
