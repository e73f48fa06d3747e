"""How a child is brought to its end: a message where it can hear one, then signals, each at its moment."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from notifier.supervision import stacks

#: A notice to the child, or a signal to its process.
Act = str | signal.Signals


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a child gets.

    start: to become ready, and again after each sign of progress. drain: to finish what runs. term: between SIGTERM and
    SIGKILL. quick: between a quick stop and SIGKILL. warn, silence: without a heartbeat before that is told, and before
    it counts as hung. unread: of leaving its pipe unread before it counts as hung.
    """

    start: float = 30.0
    drain: float = 25.0
    term: float = 5.0
    quick: float = 2.0
    warn: float = 10.0
    silence: float = 30.0
    unread: float = 5.0


#: Seconds for a process that hangs to write its stacks.
WRITING = 0.5


class Departure:
    """The steps that are still to be taken, in order. The makers below are all there are.

    why: what the master has against the child. None as long as it was merely asked to go; from the step after that on,
    that it did not.
    """

    def __init__(self, steps: list[tuple[float, Act]], complaint: str, *, asked: bool = False) -> None:
        self._steps = steps
        self._complaint = complaint
        self._asked = asked
        self.why: str | None = None

    @classmethod
    def drain(cls, now: float, limits: Limits, *, worked: bool) -> Departure:
        """Ask to finish what runs. A child that never was ready has nothing to finish and gets less time."""
        patience = limits.drain if worked else limits.term
        return cls(
            [(now, "drain"), (now + patience, signal.SIGTERM), (now + patience + limits.term, signal.SIGKILL)],
            f"did not finish within {patience:g} s",
        )

    @classmethod
    def quick(cls, now: float, limits: Limits) -> Departure:
        """Ask to leave at once what is unfinished."""
        return cls([(now, "quick"), (now + limits.quick, signal.SIGKILL)], f"did not leave within {limits.quick:g} s")

    @classmethod
    def unmet(cls, now: float, limits: Limits) -> Departure:
        """For a child that has not said HELLO: it cannot hear a message, and has not begun anything."""
        return cls(
            [(now, signal.SIGTERM), (now + limits.term, signal.SIGKILL)], f"did not leave within {limits.term:g} s"
        )

    @classmethod
    def parted(cls, now: float, limits: Limits, reason: str) -> Departure:
        """For a child whose pipe has ended: that is how an exit looks at first, so it gets time for it."""
        return cls(
            [(now + limits.term, signal.SIGTERM), (now + 2 * limits.term, signal.SIGKILL)],
            f"went on after its pipe had ended ({reason})",
            asked=True,
        )

    @classmethod
    def killed(cls, now: float, why: str) -> Departure:
        """For a child that nothing more can be expected of."""
        return cls([(now, signal.SIGKILL)], why, asked=True)

    @classmethod
    def hung(cls, now: float, why: str) -> Departure:
        """For a child that does nothing any more: it shows where it stands, if it can, and ends."""
        return cls([(now, stacks.SIGNAL), (now + WRITING, signal.SIGKILL)], why, asked=True)

    @property
    def due(self) -> float | None:
        """The moment of the next step."""
        return self._steps[0][0] if self._steps else None

    def take(self, now: float) -> Act | None:
        """The next step if its moment has come; it counts as taken."""
        if not self._steps or self._steps[0][0] > now:
            return None
        if self._asked:
            self.why = self._complaint
        self._asked = True
        return self._steps.pop(0)[1]
