"""When a child that ended is started again: at once, then later and later, until it has been healthy for a minute."""

from __future__ import annotations

from collections.abc import Sequence

#: Seconds of being ready after which earlier failures are forgotten.
HEALTHY = 60.0
#: Seconds before the second restart in a row; doubles from there.
FIRST_DELAY = 0.5
#: Seconds that no restart waits longer than, jitter apart.
LONGEST_DELAY = 30.0
#: More restarts than this within `WINDOW` seconds are no accident any more: the slot is degraded.
BUDGET = 5
WINDOW = 60.0


def failures_after(failures: int, ready_for: float) -> int:
    """Ends in a row, counting the one just seen, of a child that was ready for so many seconds before it."""
    return 1 if ready_for >= HEALTHY else failures + 1


def delay_before(failures: int) -> float:
    """Seconds to wait before the restart after so many ends in a row: 0, 0.5, 1, 2 … 30."""
    if failures <= 1:
        return 0.0
    doublings = min(failures - 2, 10)  # the longest delay is reached long before the float overflows
    return float(min(FIRST_DELAY * 2**doublings, LONGEST_DELAY))


def jittered(delay: float, draw: float) -> float:
    """The delay moved by up to a fifth either way, so that children that died together do not return together.

    draw: a random number in [0, 1).
    """
    return delay * (0.8 + 0.4 * draw)


def is_degraded(restarts: Sequence[float], now: float) -> bool:
    """restarts: when the last ones were planned, oldest first, in the same clock as now."""
    return sum(now - restart < WINDOW for restart in restarts) > BUDGET
