"""Signs of life of one process, and what their absence means. Pure; the caller brings the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from notifier.errors import BadFrame
from notifier.supervision.channel import Body
from notifier.supervision.departure import Limits


class Life(IntEnum):
    """How a process does; each is worse than the one before."""

    FINE = 0
    SILENT = 1
    HUNG = 2


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What there is to say about a process."""

    life: Life
    complaint: str = ""


class Vitals:
    """The heartbeats of one process. statistics: opaque, the newest. beats: how many came."""

    def __init__(self) -> None:
        self.beats = 0
        self.version = 0
        self.paused = False
        self.statistics: Mapping[str, Any] = {}
        self._heard_at: float | None = None

    def joined(self, now: float) -> None:
        """It said HELLO: from now on it is expected to be heard."""
        self._heard_at = now

    def beat(self, body: Body, now: float) -> None:
        """Take a heartbeat. Raises BadFrame."""
        match body:
            case {"version": int(version), "paused": bool(paused), "statistics": dict(statistics)}:
                self.version, self.paused, self.statistics = version, paused, statistics
            case _:
                raise BadFrame(f"a heartbeat holds {sorted(body)} and cannot be understood")
        self.beats += 1
        self._heard_at = now

    def forgive(self, seconds: float) -> None:
        """The master itself was not there for so long: nobody could be heard."""
        if self._heard_at is not None:
            self._heard_at += seconds

    def silent(self, now: float) -> float | None:
        """Seconds since it was heard; None before its HELLO."""
        return None if self._heard_at is None else now - self._heard_at

    def diagnose(self, now: float, limits: Limits, unread_since: float | None) -> Diagnosis:
        """unread_since: since when it has taken nothing from its pipe although something waits there."""
        silent = self.silent(now)
        if silent is None:
            return Diagnosis(Life.FINE)
        if unread_since is not None and now - unread_since >= limits.unread:
            return Diagnosis(Life.HUNG, f"did not read its pipe for {limits.unread:g} s")
        if silent >= limits.silence:
            return Diagnosis(Life.HUNG, f"gave no sign of life for {limits.silence:g} s")
        if silent >= limits.warn:
            return Diagnosis(Life.SILENT)
        return Diagnosis(Life.FINE)
