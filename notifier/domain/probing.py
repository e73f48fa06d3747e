"""Which notification may be the probe of an open breaker: a new one, and one that waited longer, in turn.

Either kind can be what fails while the merchant answers all else. What is new is a first attempt, and some merchants
fail each of those. What waited longest is, the longer there is trouble, what the merchant always refuses, since all
else is delivered by then. If one kind always went first, and there is always enough of both, such a merchant would be
cut off for hours; so each pause ends with one probe of each kind, one after the other, unless the first succeeds.
"""

from __future__ import annotations

from typing import Any

#: Seconds for which the other kind waits for the one whose turn it is. Where none of that comes by then, any may go.
TURN = 2.0


def waits(failed: int, *, new: bool) -> float:
    """Seconds after the pause from which on a notification may be the probe.

    failed: probes that failed since the breaker opened. new: whether it was neither attempted before nor let go on
    after it was held (`Notification.is_new`); that kind is the first.
    """
    return 0.0 if new == (failed % 2 == 0) else TURN


def is_round_over(failed: int) -> bool:
    """Whether so many failed probes were one of each kind since the last pause, and the next pause begins."""
    return failed % 2 == 0


def failed(told: Any) -> int:
    """How many probes failed, by what was told of a breaker; 0 where that does not say it."""
    match told:
        case {"probes": int(probes)} if probes >= 0:
            return probes
    return 0
