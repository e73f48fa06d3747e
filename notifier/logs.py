"""Log lines on stderr: one event a line, a stable event name first, then its fields.

`console` is for people, `json` for programs; both carry the same fields. Libraries' own records pass through the
same formatter, from warnings up. What merchants and producers wrote is told as data: no line break and no escape
sequence of theirs reaches the terminal.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any

_LOGGER = logging.getLogger("notifier")
#: Nearly every value is such a text; asking this way takes a third of the time.
_PLAIN = re.compile(r"[!#-<>-~]+")
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}


def configure(level: str, form: str, process: str, stream: IO[str] | None = None) -> None:
    """Send this process's events to `stream` (stderr). level, form: as in the settings. process: who speaks, such as
    `tier 5s`. May be called again: the last call counts.
    """
    stream = sys.stderr if stream is None else stream
    colour = stream.isatty() and not os.environ.get("NO_COLOR")  # https://no-color.org
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json(process) if form == "json" else _Console(process, colour=colour))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    _LOGGER.setLevel(level.upper())
    root.setLevel(max(logging.WARNING, _LOGGER.level))


def event(name: str, /, level: int = logging.INFO, *, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Tell one event. name: stable, lower case with dashes or dots. fields: JSON values; None ones are left out."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, name, exc_info=exc_info, extra={"fields": fields})


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fixed = {
            "ts": _moment(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "event": record.getMessage(),
        }
        if record.name != _LOGGER.name:
            fixed["logger"] = record.name
        if record.exc_info:
            fixed["traceback"] = self.formatException(record.exc_info)
        # twice: the fixed ones come first, and no field takes their place
        return json.dumps({**fixed, **_fields(record), **fixed}, default=str, ensure_ascii=False)


class _Console(logging.Formatter):
    def __init__(self, process: str, *, colour: bool) -> None:
        super().__init__()
        self._process = process
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        said = " ".join(f"{name}={_short(value)}" for name, value in _fields(record).items())
        name = (
            record.getMessage() if record.name == _LOGGER.name else f"{record.name}: {_harmless(record.getMessage())}"
        )
        line = f"{_moment(record)} {self._process:<10} {name:<10} {said}".rstrip()
        if record.exc_info:
            line += "\n" + "\n".join(map(_harmless, self.formatException(record.exc_info).splitlines()))
        if self._colour and record.levelno in _COLOURS:
            return f"\x1b[{_COLOURS[record.levelno]}m{line}\x1b[0m"
        return line


def moment(unix_ms: int) -> str:
    """Unix milliseconds as UTC, ISO 8601: `2026-11-21T10:05:46.064Z`. Raises ValueError or OverflowError after 9999."""
    second, millisecond = divmod(unix_ms, 1000)
    return f"{_second(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=64)  # three moments are told per attempt, most of them in the same few seconds
def _second(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _moment(record: logging.LogRecord) -> str:
    return moment(int(record.created * 1000))


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else _short_text(value)
    if isinstance(value, bool | int | list | dict):
        return json.dumps(value, default=str)
    return _short(str(value))


def _short_text(text: str) -> str:
    plain = text.isprintable() and not any(mark in text for mark in ' "=')
    return text if plain and text else _quoted(text)


def _harmless(text: str) -> str:
    return text if text.isprintable() else _quoted(text)


def _quoted(text: str) -> str:
    """As JSON writes it: nothing in it is a control character any more, those beyond ASCII included."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
