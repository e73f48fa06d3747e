"""JSON lines as `notifier enqueue --file` reads them: bytes to numbered lines, a line to its fields. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from notifier.errors import InvalidInput

#: Fields of a line, in the order in which errors list them.
FIELDS = ("merchant", "url", "payload", "ladder", "id", "reference")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_decoder = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")
#: A string with an escape in it is the only token of JSON, besides blanks between tokens, that compacting changes.
_TOKEN = re.compile(r'"[^"\\]*"|(?P<escaped>"(?:[^"\\]|\\.)*")|(?P<blank>[ \t\r\n]+)')


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank. number: 1-based, as editors count. text: None when it was too long to be kept."""

    number: int
    text: bytes | None


class Splitter:
    """Cuts chunks of bytes into lines. longest: bytes of a line that are kept; a longer one is passed over."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = b""
        self._too_long = False
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that this chunk completes."""
        first, *others = chunk.split(b"\n")
        self._keep(first)
        for piece in others:
            yield from self._cut()
            self._keep(piece)

    def end(self) -> Iterator[Line]:
        """The last line, if it has no line end."""
        yield from self._cut()

    def _keep(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > self._longest:
            self._rest, self._too_long = b"", True
        elif not self._too_long:
            self._rest += piece

    def _cut(self) -> Iterator[Line]:
        self._number += 1
        text, too_long = self._rest.strip(), self._too_long
        self._rest, self._too_long = b"", False
        if self._number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)  # editors on Windows begin files with it
        if too_long:
            yield Line(self._number, None)
        elif text:
            yield Line(self._number, text)


@dataclass(frozen=True, slots=True)
class Fields:
    """What a line states. payload: the bytes that the merchant will receive."""

    merchant: str
    payload: bytes
    url: str | None = None
    ladder: str | None = None
    id: str | None = None
    reference: str | None = None


def fields(line: bytes) -> Fields:
    """Read one line. Raises InvalidInput that says what is wrong with it."""
    text = decoded(line)
    numbers = _Numbers()
    found = _parsed(text, json.JSONDecoder(parse_float=numbers, parse_constant=_refuse_constant))
    if not isinstance(found, dict):
        raise InvalidInput('not a JSON object; a line looks like {"merchant": "M", "payload": {"order": 42}}')
    unknown = [name for name in found if name not in FIELDS]
    if unknown:
        raise InvalidInput(f"unknown field {', '.join(map(repr, unknown))}; known are {', '.join(FIELDS)}")
    missing = [name for name in ("merchant", "payload") if name not in found]
    if missing:
        raise InvalidInput(f"{' and '.join(missing)} missing")
    texts = {name: _text(found, name) for name in FIELDS if name != "payload"}
    merchant = texts.pop("merchant")
    if merchant is None:
        raise InvalidInput("merchant missing")
    return Fields(merchant=merchant, payload=_payload(text, found["payload"], exact=numbers.exact), **texts)


def decoded(line: bytes) -> str:
    """The text of bytes that must be UTF-8. Raises InvalidInput naming the first byte that is not."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"not UTF-8: byte {error.start + 1} is 0x{line[error.start]:02x}") from None


def require_json(payload: bytes) -> None:
    """Return if the bytes are one JSON value in UTF-8; else raise InvalidInput."""
    if payload.startswith(BYTE_ORDER_MARK):
        raise InvalidInput("it begins with a byte order mark, which is no part of JSON; save it without")
    _parsed(decoded(payload), json.JSONDecoder(parse_constant=_refuse_constant))


class _Numbers:
    """Parses fractions, and remembers whether one of them would be written otherwise than it was: 10.00, 1e400."""

    def __init__(self) -> None:
        self.exact = True

    def __call__(self, text: str) -> float:
        number = float(text)
        self.exact = self.exact and repr(number) == text
        return number


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidInput(f"malformed JSON: {name} is not a JSON value")


def _parsed(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno} column {error.colno} of it"
        raise InvalidInput(f"malformed JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise InvalidInput("malformed JSON: nested too deeply") from None
    except InvalidInput:
        raise
    except ValueError as error:
        raise InvalidInput(f"malformed JSON: {error}") from None  # a whole number of thousands of digits


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InvalidInput(f"{name} must be text, in quotes; it is {json.dumps(value):.60}")


def _payload(line: str, value: Any, *, exact: bool) -> bytes:
    if exact:
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    else:
        # 10.00 is no 10.0 and an amount of twenty digits no float: what is to be paid goes out as it was written.
        written = _TOKEN.sub(_compact, _member(line, "payload"))
    try:
        return written.encode()
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8; its escape is what can be sent
        return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", written).encode()


def _compact(token: re.Match[str]) -> str:
    if token["blank"]:
        return ""
    if token["escaped"]:
        return json.dumps(json.loads(token["escaped"]), ensure_ascii=False)
    return token[0]


def _member(line: str, name: str) -> str:
    """The text of a member of the object in a line that is known to be valid; of the last one, as json reads it."""
    found, at = "", line.index("{") + 1
    while True:
        key, at = _decoder.raw_decode(line, _after_blank(line, at))
        start = _after_blank(line, line.index(":", at) + 1)
        _, at = _decoder.raw_decode(line, start)
        if key == name:
            found = line[start:at]
        at = _after_blank(line, at)
        if line[at] == "}":
            return found
        at += 1


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()
