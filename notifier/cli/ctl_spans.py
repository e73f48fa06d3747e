"""Spans and moments of time, as operators write and read them. Pure; the caller brings the time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from notifier.errors import InvalidInput

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?[wdhms])+")
_PART = re.compile(r"([0-9.]+)([wdhms])")
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def parse(text: str) -> float:
    """Seconds of `10m`, `1h30m`, `1.5s`. Raises InvalidInput for anything else, for nothing, and for no time at all."""
    parts = _PART.findall(text) if _SPAN.fullmatch(text) else []
    units = [unit for _, unit in parts]
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not seconds or len(set(units)) != len(units):
        raise InvalidInput(f"{text!r:.40} is not a span of time: write it as 30s, 10m, 1h30m or 2d")
    return seconds


def spelled(seconds: float) -> str:
    """The two largest units of a span: `3h12m`, `45s`; below ten seconds with a tenth."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f}".removesuffix(".0") + "s"
    rest = round(seconds)
    for at, (unit, size) in enumerate(_UNITS):
        if rest >= size:
            count, rest = divmod(rest, size)
            finer = "".join(f"{rest // size_}{unit_}" for unit_, size_ in _UNITS[at + 1 : at + 2] if rest // size_)
            return f"{count}{unit}{finer}"
    return "0s"


def moment(iso: str, now: datetime) -> str:
    """A moment in UTC to the second; without its date if that is today's."""
    then = read(iso)
    return then.strftime("%H:%M:%SZ" if then.date() == now.astimezone(UTC).date() else "%Y-%m-%dT%H:%M:%SZ")


def read(iso: str) -> datetime:
    """A moment as the master writes it."""
    return datetime.fromisoformat(iso).astimezone(UTC)


def milliseconds(value: object) -> str:
    """A lateness: `38 ms`, `2.3 s`; a dash if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.1f} s" if value < 60_000 else spelled(value / 1000)
