"""When a schedule runs, and where, if one process is to do it for all. Pure: the clock and the chance are brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

#: `one`: a single process of the machine does it. `all`: each one does it.
By = Literal["one", "all"]
#: States of a slot in which its process can do something.
_ABLE = ("ready", "paused")


@dataclass(frozen=True, slots=True)
class Run:
    """One run by one process for all. began, ended: seconds of the machine's monotonic
    clock, which all its processes share and nobody sets; ended None while it runs, or if its process died."""

    slot: str
    epoch: int
    began: float
    ended: float | None = None

    @property
    def latest(self) -> float:
        """The last moment that is known of it."""
        return self.began if self.ended is None else self.ended

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {"slot": self.slot, "epoch": self.epoch, "began": self.began, "ended": self.ended}

    @classmethod
    def read(cls, shown: Any) -> Run | None:
        """Back from what `shown` gave; None for what is no run."""
        match shown:
            case {"slot": str(slot), "epoch": int(epoch), "began": int() | float() as began, "ended": ended}:
                return cls(slot, epoch, began, ended if isinstance(ended, int | float) else None)
        return None


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that runs extensions, as the master sees it."""

    slot: str
    epoch: int
    able: bool


def peers(status: Mapping[str, Any], group: str) -> list[Peer]:
    """The processes of a group in the order of their slots."""
    return [
        Peer(slot["slot"], slot["epoch"], slot["state"] in _ABLE)
        for slot in status["slots"]
        if group in slot["groups"] or slot["slot"] == group
    ]


def next_due(latest: float, interval: float, jitter: float, draw: float) -> float:
    """When it is time again: an interval after the last time, moved by up to `jitter` of it either way.

    draw: a random number in [0, 1).
    """
    return latest + interval * (1 + jitter * (2 * draw - 1))


def newer(known: Run | None, heard: Run | None) -> Run | None:
    """Of two reports the one that tells more: the later run, or the end of the same one."""
    if known is None or heard is None:
        return known or heard
    return max(known, heard, key=lambda run: (run.began, run.latest))


def is_mine(me: str, present: Sequence[Peer], last: Run | None, now: float, bound: float) -> bool:
    """Whether this process shall do now what is due, for all.

    The first one that is able does it. So if that one dies, the next one does, and nobody has to be elected. While a
    run is under way nobody starts another: under way means that its process lives and has not had `bound` seconds yet.
    """
    if last is not None and last.ended is None and now < last.began + bound and _lives(last, present):
        return False
    first = next((peer.slot for peer in present if peer.able), None)
    return first == me


def _lives(run: Run, present: Iterable[Peer]) -> bool:
    return any(peer.slot == run.slot and peer.epoch == run.epoch and peer.able for peer in present)
