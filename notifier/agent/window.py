"""How many released notifications of a merchant its tier processes have room for, as far as that shows: found out in
the way in which TCP finds out what a line takes.

The window begins as wide as it may be. What comes back unattempted found no room, and narrows it to what did not come
back. It widens by one with each attempt that ended and made room, and when it was full and nothing came back. Where all
came back and nothing ended, one is tried now and then, and that ever more rarely. So a merchant that hangs, or whose
breaker this machine does not hear of, costs little. As long as a merchant has acknowledged nothing, attempts that fail
make no room: its breaker is about to open (`delivery.breaker`, `worth`).
"""

from __future__ import annotations

from dataclasses import dataclass

from notifier.ledger.holding import OnTheWay

#: Seconds in which what finds no room has come back.
SETTLED = 1.0
#: Of its merchant's bound, by which it widens then.
PART = 1 / 20
#: Seconds between two tries where all came back: doubled each time, to a bound.
FIRST_PAUSE, LONGEST_PAUSE = 4.0, 600.0


@dataclass(slots=True)
class Window:
    """Of one merchant. width: at most so many on their way. since: when it was narrowed, widened or filled, in seconds
    that never go back. back: the newest release that is known to have come back, Unix milliseconds. acknowledges:
    whether it has done so.
    """

    width: int
    since: float = 0.0
    full: bool = False
    back: int = 0
    pause: float = FIRST_PAUSE
    acknowledges: bool = False

    def look(self, way: OnTheWay, most: int, now: float) -> None:
        """What is on its way at the moment `now`. most: the merchant's bound."""
        if way.back is not None and way.back > self.back:
            self.back = way.back
            if not self.width:
                self.pause = min(LONGEST_PAUSE, self.pause * 2)
            self.width, self.since, self.full = way.there, now, False
        elif self.full and now - self.since >= SETTLED:
            wider = max(1, int(most * PART))
            self.width, self.since, self.full, self.pause = self.width + wider, now, False, FIRST_PAUSE
        self.width = min(self.width, most)

    def room(self, way: OnTheWay, now: float) -> int:
        """How many more may go."""
        try_one = not way.there and now - self.since >= self.pause
        return max(self.width - way.there, 1 if try_one else 0)

    def gone(self, way: OnTheWay, now: float) -> None:
        """Some went; this is on its way now."""
        if way.there >= self.width and not self.full:
            self.full, self.since = True, now

    def ended(self, *, acknowledged: bool, released: bool) -> None:
        """An attempt ended. One that was a release gives its own place back."""
        self.acknowledges = self.acknowledges or acknowledged
        if self.acknowledges and not released:
            self.width += 1

    def forgettable(self, now: float) -> bool:
        """Nothing has been found out for long."""
        return now - self.since > 2 * self.pause + SETTLED
