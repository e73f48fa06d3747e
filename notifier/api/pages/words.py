"""Numbers, moments and spans as people read them. Pure; everything in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

#: A moment as the ledger has it (Unix ms) or as it is told (ISO 8601).
Moment = int | float | str

_SPANS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def moment(value: Moment) -> datetime:
    """Read a moment; raises ValueError for what is none."""
    if isinstance(value, str):
        read = datetime.fromisoformat(value)
        return read if read.tzinfo else read.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1000, UTC)


def milliseconds(value: Moment) -> float:
    """A moment as Unix milliseconds."""
    return moment(value).timestamp() * 1000


def when(value: Moment | None, now: datetime, *, exact: bool = False) -> Markup:
    """`12:03:11` of today, else `20 Nov 12:03`, as a `time` element; exact: with milliseconds. A dash for None."""
    if value is None:
        return Markup("–")
    read = moment(value).astimezone(UTC)
    iso = read.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    clock = f"{read:%H:%M:%S}" + (f".{read.microsecond // 1000:03}" if exact else "")
    if read.date() != now.date():
        clock = (
            f"{read.day} {read:%b}{'' if read.year == now.year else f' {read.year}'} {clock if exact else clock[:5]}"
        )
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(iso, iso.rstrip("Z").replace("T", " "), clock)


def stamp(value: Moment) -> str:
    """A moment in a sentence: `21 Nov 12:03 UTC`."""
    read = moment(value).astimezone(UTC)
    return f"{read.day} {read:%b %H:%M} UTC"


def to_the_second(value: Moment) -> str:
    """As `stamp`, where seconds count: `21 Nov 12:03:11 UTC`."""
    read = moment(value).astimezone(UTC)
    return f"{read.day} {read:%b %H:%M:%S} UTC"


def ago(value: Moment | None, now: datetime) -> Markup:
    """`2 min ago`, `in 12 s`, `now`, as a `time` element. A dash for None."""
    if value is None:
        return Markup("–")
    read = moment(value)
    iso = read.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    seconds = (now - read).total_seconds()
    said = "now" if abs(seconds) < 1 else f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(iso, iso.rstrip("Z").replace("T", " "), said)


def span(seconds: float | None) -> str:
    """A duration by its largest unit, `2 min`; two units below ten of the first: `1 h 20 min`."""
    if seconds is None:
        return "–"
    left = round(seconds)
    for place, (size, unit) in enumerate(_SPANS):
        if left >= size:
            count, rest = divmod(left, size)
            if count < 10 and place + 1 < len(_SPANS) and rest >= _SPANS[place + 1][0]:
                return f"{count} {unit} {rest // _SPANS[place + 1][0]} {_SPANS[place + 1][1]}"
            return f"{count} {unit}"
    return "0 s"


def millis(value: float | None) -> str:
    """Milliseconds: `0.4 ms`, `12 ms`, `1.2 s`, `3 min`. A dash for None."""
    if value is None:
        return "–"
    if abs(value) < 1000:
        return f"{value:.0f} ms" if abs(value) >= 10 or value == 0 else f"{value:.1f} ms"
    return f"{value / 1000:.1f} s" if abs(value) < 10_000 else span(value / 1000)


def number(value: float | None) -> str:
    """With thousands apart: `12,040`. A dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def compact(value: int) -> str:
    """For a badge: `12`, `1.2k`, `340k`, `2M`."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}" if value < 10 * size else f"{value // size}{unit}"
    return str(value)


def rate(value: float | None) -> str:
    """Per second: one digit after the point below ten, and none for nothing."""
    if value is None:
        return "–"
    return f"{value:.1f}" if 0 < abs(value) < 9.95 else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """`97.5 %`; 100 % only if it is all, 0 % only if it is none. A dash for None."""
    if share is None:
        return "–"
    value = share * 100
    if 0 < value < 0.1:
        return "< 0.1 %"
    return f"{min(math.floor(value * 10) / 10, 100):.1f} %".replace(".0 %", " %")


def nth(count: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def many(count: int, one: str, several: str | None = None) -> str:
    """`1 notification`, `1,204 notifications`."""
    return f"{number(count)} {one if count == 1 else several or one + 's'}"


def listed(value: Any) -> str:
    """A ladder as it is read: `1s → 3s → 5s`; long ones with their middle left out."""
    parts = [str(part) for part in (value.split(",") if isinstance(value, str) else value or ())]
    if len(parts) > 8:
        parts = [*parts[:5], "…", *parts[-2:]]
    return " → ".join(part.strip() for part in parts)
