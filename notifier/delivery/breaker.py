"""A circuit breaker per merchant: one that fails is left alone for a while, and then tried with single probes.

closed → open, when of enough attempts within the window too many failed → half-open, when the pause is over and one
probe is under way → closed, or after one of each kind (`domain/probing.py`) open again for twice as long. A quiet
merchant is never cut off: too few attempts say nothing. What an open breaker refuses is held, uses up no step, and goes
on when it closes.

Every tier process has its own breakers and tells the others what became of them (`told`), so that what one tier has
learned at a merchant's cost saves the others from learning it again.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from notifier import logs
from notifier.domain import probing
from notifier.sections import Breaker

#: Parts in which the window is counted: what leaves it leaves a sixth at a time.
_PARTS = 6
#: So many of them are lately: a round of callbacks that began within some seconds ends within as many.
_LATELY = 2
#: Which part of the window somebody is doubted before it is cut off.
_DOUBT = 12
#: Seconds by which processes that were started together begin to count one after the other.
ALIKE = 5.0
#: Seconds that a probe may take longer than its callback, before another one may go.
PROBE_GRACE = 5.0
#: Closed breakers that are remembered.
_REMEMBERED = 5000


def longest(settings: Breaker) -> float:
    """Seconds for which one may be open at a time."""
    return max(settings.pause, settings.longest_pause)


class State(StrEnum):
    """Of one breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class _Circuit:
    """One merchant's. until: Unix seconds; of an open one: when a probe may go, of a half-open one: when the probe is
    taken for lost. ours: the probe is made here. probes: that failed since it opened. counts: failed, and all, by parts
    of the window. judged: the part in which it was last suspected. asked: what is counted elsewhere is not known yet.
    """

    state: State = State.CLOSED
    until: float = 0.0
    pause: float = 0.0
    since: float = 0.0
    ours: bool = False
    probes: int = 0
    failed: int = 0
    of: int = 0
    counts: OrderedDict[int, list[int]] = field(default_factory=OrderedDict)
    judged: int = -1
    asked: bool = False

    def counted(self, after: int = -1) -> tuple[int, int]:
        """Failed, and all, of the parts of the window after that one."""
        counted = [count for part, count in self.counts.items() if part > after]
        return sum(count[0] for count in counted), sum(count[1] for count in counted)


class Breakers:
    """The breakers of one process.

    patience: seconds after which a probe is taken for lost. changed: hears of every change made here, by merchant, with
    what the others are to be told; None means closed. suspected: hears of a merchant that fails by what is counted
    here, and is to call `judge` with what is counted elsewhere, and then `answered`: who fails each first attempt may
    succeed with each second, in another tier. It says whether it asks from now on, and was not asking already. None:
    what is counted here is all there is. clock: Unix seconds, since the moments are shared. steady: seconds, for what
    is counted here alone.
    """

    def __init__(
        self,
        settings: Breaker,
        patience: float,
        changed: Callable[[str, Mapping[str, Any] | None], None],
        suspected: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._changed = changed
        self._suspected = suspected
        self._clock = clock
        self._steady = steady
        self._began = steady()
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def refusal(self, merchant: str, *, new: bool = True) -> str | None:
        """Why no attempt is to be made now; None means it may, by all this breaker knows. new: see `probing.waits`."""
        circuit = self._circuits.get(merchant)
        if circuit is None or circuit.state is State.CLOSED:
            return None
        left = circuit.until - self._clock()
        if left > longest(self._settings) + self._patience:  # that long only if a clock was set
            return None
        if left > 0:
            return _sentence(circuit)
        if -left < probing.waits(circuit.probes, new=new):
            return _TURN_OF_OLD if new else _TURN_OF_NEW
        return None

    def pass_(self, merchant: str, *, new: bool = True) -> str | None:
        """As `refusal`, in the moment before an attempt: where one may be made as a probe, this is the probe.

        After it comes `attempted`, or `withdrawn`.
        """
        refusal = self.refusal(merchant, new=new)
        circuit = self._circuits.get(merchant)
        if refusal is None and circuit is not None and circuit.state is not State.CLOSED:
            circuit.ours = True
            self._turn(merchant, circuit, State.HALF_OPEN, self._clock() + self._patience)
        return refusal

    def worth(self, merchant: str, most: int) -> int:
        """How many callbacks of it at once make sense, of so many that may run by all else; at least one.

        Where some failed and none was acknowledged, those that run may be as many already as it takes to open. Further
        ones would fail likewise, each after the whole timeout of a merchant that hangs; and while the others are asked,
        one is enough. Only what failed lately counts for that: else callbacks that take long would keep those from
        beginning that are to follow what leaves the window, and it would never open.
        """
        failed, of = self.counted(merchant)
        if not self._settings.enabled or not failed or failed < of:
            return most
        circuit = self._circuits[merchant]
        if of < self._settings.attempts:
            return min(most, self._settings.attempts - circuit.counted(self._part() - _LATELY)[1])
        return 1 if circuit.asked else most

    def answered(self, merchant: str) -> None:
        """What is counted elsewhere speaks for it, or is known and led to whatever it led to."""
        if merchant in self._circuits:
            self._circuits[merchant].asked = False

    def withdrawn(self, merchant: str) -> None:
        """The attempt was not made after all: the next one may be the probe."""
        circuit = self._circuits.get(merchant)
        if circuit is not None and circuit.state is State.HALF_OPEN and circuit.ours:
            self._turn(merchant, circuit, State.OPEN, self._clock())

    def attempted(self, merchant: str, *, acknowledged: bool) -> None:
        """What came of an attempt."""
        if not self._settings.enabled:
            return
        circuit = self._circuit(merchant)
        match circuit.state:
            case State.CLOSED:
                self._count(merchant, circuit, acknowledged)
            case State.HALF_OPEN if circuit.ours and acknowledged:
                self._close(merchant, circuit)
            case State.HALF_OPEN if circuit.ours:
                circuit.probes += 1
                if probing.is_round_over(circuit.probes):
                    circuit.pause = min(self._settings.longest_pause, circuit.pause * 2)
                    self._open(merchant, circuit)
                else:
                    self._turn(merchant, circuit, State.OPEN, self._clock())
            case _:
                return  # it had started before

    def counted(self, merchant: str, over: float | None = None) -> tuple[int, int]:
        """How many attempts failed here within the window, of how many. over: within so many seconds, if this process
        has counted for much longer.
        """
        circuit = self._circuits.get(merchant)
        if circuit is None:
            return 0, 0
        if over is None or over > self.over - ALIKE:
            return circuit.counted(self._part() - _PARTS)
        return circuit.counted(self._part(over))

    @property
    def doubt(self) -> float:
        """Seconds after which who fails, and acknowledges some, must fail still. After an outage of ours all that has
        waited comes at once: who fails many a first attempt then has second ones to acknowledge, and those are due
        only in a moment.
        """
        return self._settings.window / _DOUBT

    @property
    def over(self) -> float:
        """Seconds that `counted` is about: the window, or less in a young process."""
        return min(self._settings.window, self._steady() - self._began)

    def fails(self, merchant: str, failed: int, of: int, over: float | None = None) -> bool:
        """Whether it is closed, and too many failed by what is counted here and elsewhere together.

        failed, of: elsewhere. over: seconds that all of those elsewhere were counting: who has just been started there
        has forgotten what succeeded, so what failed here before that does not count. None: the whole window.
        """
        here = self.counted(merchant, over)
        return self._circuit(merchant).state is State.CLOSED and self._fails(here[0] + failed, here[1] + of)

    def acknowledges(self, merchant: str, failed: int, of: int, over: float | None = None) -> bool:
        """Whether it acknowledged anything at all, here or elsewhere; see `fails`."""
        here = self.counted(merchant, over)
        return here[0] + failed < here[1] + of

    def judge(self, merchant: str, failed: int, of: int, over: float | None = None) -> None:
        """Open it, if it fails; see there."""
        if self.fails(merchant, failed, of, over):
            circuit, here = self._circuit(merchant), self.counted(merchant, over)
            circuit.failed, circuit.of, circuit.pause = here[0] + failed, here[1] + of, self._settings.pause
            circuit.since, circuit.probes = self._clock(), 0
            self._open(merchant, circuit)

    def told(self, merchant: str, value: Any) -> None:
        """Another process, or an operator, changed a breaker; value as in `changed`, and None for closed. What was
        changed here is not to be told back.
        """
        circuit = self._circuit(merchant)
        match value:
            case {
                "state": "open" | "half-open" as state,
                "until": int(until),
                "since": int(since),
                "pause": int() | float() as pause,
                "failed": int(failed),
                "of": int(of),
            }:
                circuit.ours = False
                circuit.state, circuit.until, circuit.since = State(state), until / 1000, since / 1000
                circuit.pause, circuit.failed, circuit.of = float(pause), failed, of
                circuit.probes = probing.failed(value)
                circuit.counts.clear()
            case _:
                circuit.state = State.CLOSED
                circuit.counts.clear()

    @property
    def open(self) -> Mapping[str, State]:
        """The merchants whose breakers are not closed."""
        return {merchant: each.state for merchant, each in self._circuits.items() if each.state is not State.CLOSED}

    def _circuit(self, merchant: str) -> _Circuit:
        circuit = self._circuits.get(merchant)
        if circuit is None:
            circuit = self._circuits[merchant] = _Circuit()
            if len(self._circuits) > _REMEMBERED:
                self._forget()
        else:
            self._circuits.move_to_end(merchant)
        return circuit

    def _forget(self) -> None:
        """The longest unused closed ones, many at a time."""
        closed = [merchant for merchant, circuit in self._circuits.items() if circuit.state is State.CLOSED]
        for merchant in closed[: len(closed) // 2]:
            del self._circuits[merchant]

    def _count(self, merchant: str, circuit: _Circuit, acknowledged: bool) -> None:
        part = self._part()
        count = circuit.counts.setdefault(part, [0, 0])
        count[0] += not acknowledged
        count[1] += 1
        while next(iter(circuit.counts)) <= part - _PARTS:
            circuit.counts.popitem(last=False)
        if acknowledged or part <= circuit.judged or not self._fails(*circuit.counted()):
            return
        if self._suspected is None:
            self.judge(merchant, 0, 0)
        else:
            circuit.judged = part  # not asked again while the answer is awaited, nor soon after it
            circuit.asked = self._suspected(merchant) or circuit.asked

    def _fails(self, failed: int, of: int) -> bool:
        return of >= self._settings.attempts and failed >= of * self._settings.ratio

    def _part(self, ago: float = 0.0) -> int:
        return int((self._steady() - ago) / (self._settings.window / _PARTS))

    def _open(self, merchant: str, circuit: _Circuit) -> None:
        self._turn(merchant, circuit, State.OPEN, self._clock() + circuit.pause)

    def _close(self, merchant: str, circuit: _Circuit) -> None:
        circuit.state = State.CLOSED
        circuit.counts.clear()
        circuit.counts[self._part()] = [0, 1]  # it acknowledged something, whatever first attempts are released now
        logs.event(
            "breaker", merchant=merchant, state=str(State.CLOSED), open_s=round(self._clock() - circuit.since, 1)
        )
        self._changed(merchant, None)

    def _turn(self, merchant: str, circuit: _Circuit, state: State, until: float) -> None:
        now = self._clock()
        circuit.state, circuit.until = state, until
        circuit.counts.clear()
        logs.event(
            "breaker",
            logging.WARNING if state is State.OPEN and until > now else logging.INFO,
            merchant=merchant,
            state=str(state),
            failed=circuit.failed,
            of=circuit.of,
            pause_s=circuit.pause,
            until=logs.moment(int(until * 1000)),
        )
        told = {
            "state": str(state),
            "until": int(until * 1000),
            "since": int(circuit.since * 1000),
            "at": int(now * 1000),
            "pause": circuit.pause,
            "probes": circuit.probes,
            "failed": circuit.failed,
            "of": circuit.of,
        }
        self._changed(merchant, told)


_TURN_OF_NEW = "its breaker is open, and now a new one goes first, to see whether it answers again"
_TURN_OF_OLD = (
    "its breaker is open, and now one that was held or tried before goes first, to see whether it answers again"
)


def _sentence(circuit: _Circuit) -> str:
    if circuit.state is State.HALF_OPEN:
        return "its breaker is half-open: one attempt is under way, to see whether it answers again"
    return (
        f"its breaker is open until {logs.moment(int(circuit.until * 1000))}, "
        f"since {circuit.failed} of the last {circuit.of} attempts failed"
    )
