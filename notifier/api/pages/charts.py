"""Geometry of the pages' drawings. Pure: values in, coordinates out; the templates write the SVG.

Wide drawings have their x in per cent and their y in pixels, so that they fit a phone and a desk without their text
being stretched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from notifier.api.pages.words import milliseconds
from notifier.domain.ladder import Ladder
from notifier.domain.tier import Tier
from notifier.errors import InvalidLadder

#: Of a sparkline's own coordinates; it is stretched to its place.
WIDTH, HEIGHT = 300.0, 100.0
#: Where a value of zero lies.
ZERO = HEIGHT - 2


@dataclass(frozen=True, slots=True)
class Curve:
    """One line over time and the area below it, as SVG paths; empty without two values, or if all are zero. The
    line leaves out where nothing was: two lines at zero would hide each other.
    """

    line: str
    area: str


def curve(values: Sequence[float], peak: float, slots: int) -> Curve:
    """values: oldest first, the last at the right edge. peak: what the full height stands for. slots: how many fit."""
    if len(values) < 2:
        return Curve("", "")
    step = WIDTH / max(slots - 1, 1)
    left = WIDTH - step * (len(values) - 1)
    top = max(peak, 1e-9)
    points = [
        f"{left + step * place:.1f} {ZERO - (HEIGHT - 6) * min(value / top, 1):.1f}"
        for place, value in enumerate(values)
    ]
    if not any(values):
        return Curve("", "")
    some = [value > 0 for value in values]
    near = [any(some[max(place - 1, 0) : place + 2]) for place in range(len(values))]
    drawn = "".join(
        f"{'L' if place and near[place - 1] else 'M'}{point}" for place, point in enumerate(points) if near[place]
    )
    return Curve(drawn, f"M{'L'.join(points)}L{WIDTH:g} {ZERO:g}L{left:.1f} {ZERO:g}Z")


@dataclass(frozen=True, slots=True)
class Stair:
    """One wait of a ladder: from x to x2 (per cent) at height y (pixels), then up to the height `rise`; None: the last.

    walked: its attempt was made. on: so was the next one's.
    """

    tier: str
    x: float
    x2: float
    y: float
    rise: float | None
    walked: bool
    on: bool

    @property
    def middle(self) -> float:
        """x of its name."""
        return round((self.x + self.x2) / 2, 2)


@dataclass(frozen=True, slots=True)
class Point:
    """One attempt. due: where it should have been. tone: good, bad or next."""

    x: float
    due: float | None
    y: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Stairs:
    """The ladder of one notification as a staircase. ticks: (x, text) of the time below. now: x, while it climbs."""

    height: float
    stairs: tuple[Stair, ...]
    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    now: float | None
    dense: bool


_LEFT, _RIGHT = 1.5, 97.5
_FOOT = 40.0


def staircase(shown: Mapping[str, Any], now_ms: float) -> Stairs | None:
    """The highest run of a notification (as `show` tells it), by time since that run began; None without a ladder.

    What is over ends where it ended; what still climbs shows the steps ahead.
    """
    try:
        spelled = shown.get("ladder") or ()
        tiers = Ladder.parse(spelled if isinstance(spelled, str) else ",".join(spelled)).tiers
    except InvalidLadder:
        return None
    run = shown.get("run") or 0
    attempts = [each for each in shown.get("attempt_log", ()) if each["run"] == run]
    reached = max((each["step"] for each in attempts), default=-1)
    climbing = shown.get("status") in ("accepted", "attempted")
    if not climbing:
        tiers = tiers[: max(reached + 1, 1)]
    begun = _begin(shown, attempts, run)
    corners = _corners(tiers, attempts, begun)
    longest = max(corners[-1], 1.0, *((milliseconds(each["started"]) - begun) / 1000 for each in attempts))
    scale = _Scale(longest)
    rise = min(30.0, 240.0 / len(tiers))
    bottom = 34.0 + rise * (len(tiers) - 1)
    levels = [bottom - rise * step for step in range(len(tiers))]
    stairs = tuple(
        Stair(
            tier.name,
            scale(corners[step - 1]) if step else _LEFT,
            scale(corners[step]),
            levels[step],
            levels[step + 1] if step + 1 < len(tiers) else None,
            walked=step <= reached,
            on=step < reached,
        )
        for step, tier in enumerate(tiers)
    )
    points = [_point(each, begun, scale, levels[min(each["step"], len(tiers) - 1)]) for each in attempts]
    if climbing and reached + 1 < len(tiers):
        points.append(Point(scale(corners[reached + 1]), None, levels[reached + 1], "next", "the next attempt"))
    now = (now_ms - begun) / 1000
    passing = scale(now) if climbing and 0 <= now <= longest else None
    return Stairs(bottom + _FOOT, stairs, tuple(points), _ticks(scale, longest), passing, len(tiers) > 8)


class _Scale:
    """Seconds to per cent, by the logarithm: a ladder's first seconds deserve as much room as its last hours."""

    def __init__(self, longest: float) -> None:
        self._whole = math.log1p(longest)

    def __call__(self, seconds: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * math.log1p(max(seconds, 0)) / self._whole, 2)


def _begin(shown: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], run: int) -> float:
    """When the run began: its acceptance, replay or release; else its first tier's length before its first attempt."""
    for event in shown.get("events", ()):
        if event["run"] == run and event["kind"] in ("accepted", "replayed", "released"):
            return milliseconds(event["at"])
    if attempts:
        first = attempts[0]
        return milliseconds(first["due"] or first["started"]) - Ladder.parse(first["tier"]).total * 1000
    return milliseconds(shown["accepted_at"])


def _corners(tiers: Sequence[Tier], attempts: Sequence[Mapping[str, Any]], begun: float) -> list[float]:
    """When each step's wait ended, or will: seconds. What is ahead is shifted by how late the last attempt was."""
    corners = [float(total) for total in accumulate(tier.seconds for tier in tiers)]
    for each in attempts:
        step = each["step"]
        if step < len(corners):
            shift = (milliseconds(each["due"] or each["started"]) - begun) / 1000 - corners[step]
            corners[step:] = [moment + shift for moment in corners[step:]]
    return corners


def _point(each: Mapping[str, Any], begun: float, scale: _Scale, level: float) -> Point:
    started = (milliseconds(each["started"]) - begun) / 1000
    due = None if each["due"] is None else scale((milliseconds(each["due"]) - begun) / 1000)
    good = each["error"] is None
    what = "acknowledged" if good else each.get("detail") or each["error"]
    return Point(scale(started), due, level, "good" if good else "bad", f"attempt {each['number']}: {what}")


_MARKS = (
    (1, "1 s"), (3, "3 s"), (10, "10 s"), (30, "30 s"), (60, "1 min"), (300, "5 min"), (1800, "30 min"), (3600, "1 h"),
    (6 * 3600, "6 h"), (86_400, "1 d"), (7 * 86_400, "7 d"), (28 * 86_400, "28 d"),
)  # fmt: skip


def _ticks(scale: _Scale, longest: float) -> tuple[tuple[float, str], ...]:
    """Round moments, none so near to another that their words would touch on a phone."""
    ticks: list[tuple[float, str]] = [(_LEFT, "0")]
    for seconds, text in _MARKS:
        if seconds <= longest and scale(seconds) - ticks[-1][0] >= 13:
            ticks.append((scale(seconds), text))
    return tuple(ticks)
