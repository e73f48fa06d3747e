"""One child's place, which outlives the processes in it, and the judgement what happens there next.

down ─► starting ─► ready ─► draining ─► stopped
          ▲  │        │
          │  └───┬────┘ it died
          └── backoff
"""

from __future__ import annotations

import json
import logging
import random
import signal
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from notifier.supervision import restart
from notifier.supervision.departure import Departure, Limits
from notifier.supervision.endings import CANNOT_START, Ending
from notifier.supervision.incarnation import Incarnation, Program, Refusal
from notifier.supervision.lines import OnLine
from notifier.supervision.suspects import Suspects

#: Bytes of a slot's boot state: with all else in the snapshot it fits into one frame.
BOOT_LIMIT = 128 * 1024


class State(StrEnum):
    """Where a slot stands."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    STOPPED = "stopped"


class Wish(IntEnum):
    """What the master wants of a slot; it only ever rises."""

    RUN = 0
    DRAIN = 1
    QUICK = 2


class Tell(Protocol):
    """Who hears what happens; `logs.event` has this shape."""

    def __call__(self, name: str, /, level: int = ..., **fields: Any) -> None:
        """Tell one event. May not block."""


class Slot:
    """The place of one child. Only `reconcile` acts; everything else notes what happened and wakes the master.

    state, epoch (incarnations so far), ever_ready: to be read. refusal: the child cannot start and never was ready,
    so the service has to end.
    """

    def __init__(
        self, program: Program, limits: Limits, *, wake: Callable[[], None], tell: Tell, on_line: OnLine | None = None
    ) -> None:
        if len(json.dumps(program.boot)) > BOOT_LIMIT:
            raise ValueError(f"the boot state of {program.slot} is longer than {BOOT_LIMIT} bytes")
        self.name = program.slot
        self.state = State.DOWN
        self.epoch = 0
        self.ever_ready = False
        self.refusal: Refusal | None = None
        self._program = program
        self._limits = limits
        self._wake = wake
        self._tell = tell
        self._on_line = on_line
        self._suspects = Suspects()
        self._child: Incarnation | None = None
        self._departure: Departure | None = None
        self._obeyed = Wish.RUN
        self._told = ""
        self._failures = 0
        self._start_at = 0.0
        self._old_pid: int | None = None
        self._old_reason: str | None = None

    @property
    def pid(self) -> int | None:
        """The process that is in this slot now."""
        return None if self._child is None else self._child.pid

    @property
    def due(self) -> float | None:
        """The moment at which `reconcile` has something to do even if nothing happens before."""
        if self._child is None:
            return self._start_at if self.state is State.BACKOFF else None
        if self._departure is not None:
            return self._departure.due
        return self._ready_by(self._child) if self.state is State.STARTING else None

    async def reconcile(self, wish: Wish, now: float) -> None:
        """Do what is due. now: the loop's time. May be called at any time and any number of times."""
        if self._child is not None and self._child.code is not None:
            await self._bury(self._child, wish, now)
        if self._child is not None:
            self._judge(self._child, now)
            self._send_home(self._child, wish, now)
            self._take_steps(self._child, now)
        elif wish is not Wish.RUN or self.refusal is not None:
            self.state = State.STOPPED
        elif now >= self._start_at:
            await self._start(now)

    async def close(self) -> None:
        """End what still runs here, by force; twice is fine."""
        if self._child is not None:
            await self._child.close()

    async def _start(self, now: float) -> None:
        self.epoch += 1
        self.state, self._departure, self._told = State.STARTING, None, ""
        child = Incarnation(self._program, self.epoch, self._limits.drain, self._suspects, self._wake)
        try:
            await child.start(self._on_line)
        except OSError as error:
            self._plan_restart(f"could not be started: {self._program.argv[0]}: {error.strerror}", now, ready_for=0.0)
            return
        self._child = child
        name = "child.started" if self.epoch == 1 else "child.restarted"
        self._tell(
            name, slot=self.name, pid=child.pid, old_pid=self._old_pid, epoch=self.epoch, reason=self._old_reason
        )

    async def _bury(self, child: Incarnation, wish: Wish, now: float) -> None:
        """Draw the conclusions from the end of a process."""
        await child.close()
        self._child = None
        ending = Ending(child.code, self._departure.why if self._departure else None)
        self._remember(child, ending)
        reason = f"{ending}: {child.refusal.message}" if child.refusal and self.ever_ready else str(ending)
        level = logging.INFO if ending.clean else logging.WARNING
        self._tell("child.ended", level, slot=self.name, pid=child.pid, epoch=self.epoch, reason=reason)
        self._old_pid = child.pid
        if wish is Wish.RUN and self.refusal is None:
            self._plan_restart(reason, now, ready_for=now - child.ready_at if child.ready_at is not None else 0.0)

    def _remember(self, child: Incarnation, ending: Ending) -> None:
        self.ever_ready = self.ever_ready or child.ready_at is not None
        if ending.clean:
            self._suspects.ended_cleanly()
        else:
            self._suspects.died(was_ready=child.ready_at is not None)
        if not self.ever_ready and (child.refusal is not None or ending.code == CANNOT_START):
            nameless = f"{self.name} cannot start and gave no reason ({ending})"
            self.refusal = child.refusal or Refusal(CANNOT_START, nameless)

    def _plan_restart(self, reason: str, now: float, *, ready_for: float) -> None:
        self._failures = restart.failures_after(self._failures, ready_for)
        delay = restart.jittered(restart.delay_before(self._failures), random.random())
        self.state, self._start_at, self._old_reason = State.BACKOFF, now + delay, reason
        if delay:
            self._tell("child.backoff", logging.WARNING, slot=self.name, seconds=delay, reason=reason)

    def _judge(self, child: Incarnation, now: float) -> None:
        """Draw the conclusions from what the process said."""
        if child.broken:
            self._kill(f"broke the protocol of its pipe: {child.lost}", now)
        elif child.lost is not None and self._departure is None:
            self._departure = Departure.parted(now, self._limits, child.lost)
        elif self.state is State.STARTING:
            self._judge_start(child, now)

    def _judge_start(self, child: Incarnation, now: float) -> None:
        if child.sentence != self._told:
            level = logging.DEBUG if self._told else logging.INFO  # a long wait must not fill the log
            self._told = child.sentence
            self._tell("child.waits", level, slot=self.name, pid=child.pid, sentence=child.sentence)
        if child.refusal is not None and not self.ever_ready:
            self.refusal = child.refusal
        elif child.ready_at is not None:
            self.state, self.ever_ready = State.READY, True
            seconds = child.ready_at - child.started_at
            self._tell("child.ready", slot=self.name, pid=child.pid, epoch=self.epoch, seconds=seconds)
        elif now >= self._ready_by(child):
            self._kill(f"was not ready within {self._limits.start:g} s", now)

    def _ready_by(self, child: Incarnation) -> float:
        return max(child.started_at, child.progressed_at) + self._limits.start

    def _kill(self, why: str, now: float) -> None:
        if self._departure is None or self._departure.why is None:
            self._departure = Departure.killed(now, why)

    def _send_home(self, child: Incarnation, wish: Wish, now: float) -> None:
        """Plan the end of the process, if that is wished since now."""
        if wish is self._obeyed:
            return
        worked = self.state is State.READY
        self.state, self._obeyed = State.DRAINING, wish
        if self._departure is not None and (self._departure.why is not None or wish is Wish.DRAIN):
            return  # its end is planned already, and is nearer
        if wish is Wish.DRAIN:
            joined = child.joined
            self._departure = (
                Departure.drain(now, self._limits, worked=worked) if joined else Departure.unmet(now, self._limits)
            )
        elif child.joined:
            self._departure = Departure.quick(now, self._limits)
        else:
            self._kill("had not said HELLO when everything had to end at once", now)

    def _take_steps(self, child: Incarnation, now: float) -> None:
        while self._departure is not None and (act := self._departure.take(now)) is not None:
            if isinstance(act, signal.Signals):
                child.signal(act)
            else:
                child.tell(act)
