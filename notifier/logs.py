"""Log lines on stderr: one event a line, a stable event name first, then its fields.

`console` is for people, `json` for programs; both carry the same fields. Libraries' own records pass through the
same formatter, from warnings up.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any

_LOGGER = logging.getLogger("notifier")
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31"}


def configure(level: str, form: str, process: str, stream: IO[str] | None = None) -> None:
    """Send this process's events to `stream` (stderr). process: who speaks, such as `tier 5s`."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json(process) if form == "json" else _Console(process, colour=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())


def event(name: str, /, level: int = logging.INFO, *, exc_info: BaseException | None = None, **fields: Any) -> None:
    """Tell one event. name: stable, lower case with dashes or dots. fields: JSON values; None ones are left out."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, name, exc_info=exc_info, extra={"fields": fields})


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "event": record.getMessage(),
        }
        if record.name != _LOGGER.name:
            line["logger"] = record.name
        line |= {name: value for name, value in _fields(record).items() if value is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class _Console(logging.Formatter):
    def __init__(self, process: str, *, colour: bool) -> None:
        super().__init__()
        self._process = process
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        said = " ".join(f"{name}={_short(value)}" for name, value in _fields(record).items() if value is not None)
        name = record.getMessage() if record.name == _LOGGER.name else f"{record.name}: {record.getMessage()}"
        moment = _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{moment} {self._process:<10} {name:<10} {said}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        if self._colour and record.levelno in _COLOURS:
            return f"\x1b[{_COLOURS[record.levelno]}m{line}\x1b[0m"
        return line


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or "\n" in text or '"' in text else text
