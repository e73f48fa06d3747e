"""One child's place, which outlives the processes in it, and the judgement what happens there next.

down ─► starting ─► ready ⇄ paused ─► draining ─► stopped
          ▲  │        │                   │
          │  └───┬────┴───────────────────┘ it died, hung, or was asked to be started again
          └── backoff, degraded
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
from collections import deque
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from notifier.errors import PeerBusy, PeerGone
from notifier.supervision import restart
from notifier.supervision.actions import Sender
from notifier.supervision.channel import Body
from notifier.supervision.departure import Departure, Limits
from notifier.supervision.endings import CANNOT_START, Ending
from notifier.supervision.inbox import Inbox
from notifier.supervision.incarnation import Incarnation, Post, Program, Refusal
from notifier.supervision.lines import OnLine
from notifier.supervision.suspects import Suspects
from notifier.supervision.vitals import Life

#: Bytes of a slot's boot state: with all else in the snapshot it fits into one frame.
BOOT_LIMIT = 128 * 1024
#: Messages that one process may have without having answered them.
UNANSWERED_LIMIT = 1000
#: Seconds after which a process is looked at again even if nothing happened.
WATCH = 1.0


class State(StrEnum):
    """Where a slot stands."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    DRAINING = "draining"
    BACKOFF = "backoff"
    DEGRADED = "degraded"
    STOPPED = "stopped"


class Wish(IntEnum):
    """What the master wants of a slot. STAY: go on, but start nothing any more."""

    RUN = 0
    STAY = 1
    DRAIN = 2
    QUICK = 3


class Tell(Protocol):
    """Who hears what happens; `logs.event` has this shape."""

    def __call__(self, name: str, /, level: int = ..., **fields: Any) -> None:
        """Tell one event. May not block."""


class Slot:
    """The place of one child. Only `reconcile` acts; everything else notes what happened and wakes the master.

    epoch (incarnations so far), since (the loop's time of the last change of state), ever_ready, degraded, reason (the
    last end): to be read. refusal: the child cannot start and never was ready, so the service has to end. last_stacks:
    where the last one stood that was killed because it hung.
    """

    def __init__(
        self,
        program: Program,
        limits: Limits,
        post: Post,
        *,
        wake: Callable[[], None],
        tell: Tell,
        on_line: OnLine | None = None,
    ) -> None:
        self.renew(program)
        self.name = program.slot
        self.epoch = 0
        self.since = 0.0
        self.ever_ready = False
        self.degraded = False
        self.reason: str | None = None
        self.refusal: Refusal | None = None
        self.last_stacks: str | None = None
        self._state = State.DOWN
        self._limits = limits
        self._post = post
        self._wake = wake
        self._tell = tell
        self._on_line = on_line
        self._suspects = Suspects()
        self._inbox = Inbox(program.slot)
        self._child: Incarnation | None = None
        self._departure: Departure | None = None
        self._obeyed = Wish.RUN
        self._held = False
        self._asked: str | None = None
        self._condemned: tuple[int, str] | None = None
        self._warned = False
        self._drifts = 0
        self._told = ""
        self._failures = 0
        self._restarts: deque[float] = deque(maxlen=restart.BUDGET + 1)
        self._start_at = 0.0
        self._looked_at = 0.0
        self._hung_at: int | None = None
        self._old_pid: int | None = None

    @property
    def state(self) -> State:
        """Where the slot stands."""
        if self._state is State.READY and self._child is not None and self._child.vitals.paused:
            return State.PAUSED
        return self._state

    @property
    def child(self) -> Incarnation | None:
        """The process that is here now."""
        return self._child

    @property
    def pid(self) -> int | None:
        """The process that is in this slot now."""
        return None if self._child is None else self._child.pid

    @property
    def program(self) -> Program:
        """What the next incarnation is started with."""
        return self._program

    @property
    def waiting(self) -> int:
        """Messages that wait for the process to be ready."""
        return len(self._inbox)

    @property
    def is_working(self) -> bool:
        """It is ready, paused or not."""
        return self._state is State.READY

    @property
    def due(self) -> float | None:
        """The moment at which `reconcile` has something to do even if nothing happens before."""
        if self._child is None:
            return self._start_at if self._state in (State.BACKOFF, State.DEGRADED) else None
        moments = [self._looked_at + WATCH] if self._child.joined else []
        if self._departure is not None:
            moments += [] if self._departure.due is None else [self._departure.due]
        elif self._state is State.STARTING:
            moments.append(self._ready_by(self._child))
        return min(moments, default=None)

    def renew(self, program: Program) -> None:
        """Start the next incarnation with this. Raises ValueError if it does not fit into a frame."""
        if len(json.dumps(program.boot)) > BOOT_LIMIT:
            raise ValueError(f"the boot state of {program.slot} is longer than {BOOT_LIMIT} bytes")
        self._program = program

    def restart(self, why: str) -> None:
        """Let the process finish and start another one, at once; also one that was held or waits for its restart.

        Whoever asks for it may have mended something: earlier ends are forgotten; what is degraded has to prove itself.
        """
        self._held = False
        self._start_at, self._failures = 0.0, 0
        self._restarts.clear()
        if self._child is not None:
            self._asked = why
        self._wake()

    def hold(self) -> None:
        """Let the process finish, and start none until `restart`."""
        self._held = True
        self._wake()

    def condemn(self, epoch: int, why: str) -> None:
        """Kill that incarnation, if it is still the one here."""
        self._condemned = (epoch, why)
        self._wake()

    def forgive(self, seconds: float) -> None:
        """The master itself was away for so long."""
        if self._child is not None:
            self._child.vitals.forgive(seconds)

    def deliver(self, action: str, data: Any, sender: Sender) -> tuple[asyncio.Future[Body], bool]:
        """Send a message to the process, or keep it until there is one that is ready; the flag says that it waits.

        Raises PeerGone if there will be none, PeerBusy if too much waits already, BadFrame if it is no JSON.
        """
        child = self._child
        if self._state is State.STOPPED:
            raise PeerGone(f"{self.name} is stopped")
        can_hear = child is not None and child.lost is None and child.ready_at is not None
        if child is None or not can_hear or self._inbox or self._state is State.STARTING:
            return self._inbox.put(action, data, sender), True
        if child.unanswered >= UNANSWERED_LIMIT:
            raise PeerBusy(f"{self.name} has {child.unanswered} messages that it has not answered yet")
        return child.request(action, data, sender), False

    async def reconcile(self, wish: Wish, now: float) -> None:
        """Do what is due. now: the loop's time. May be called at any time and any number of times."""
        self._looked_at = now
        if self._held:
            wish = max(wish, Wish.DRAIN)
        if self._child is not None and self._child.code is not None:
            await self._bury(self._child, wish, now)
        if self._child is not None:
            self._judge(self._child, now)
            self._send_home(self._child, wish, now)
            self._send_round(self._child, now)
            self._take_steps(self._child, now)
        elif wish is not Wish.RUN or self.refusal is not None:
            self._become(State.STOPPED, now)
            self._inbox.refuse(f"{self.name} is stopped")
        elif now >= self._start_at:
            await self._start(now)

    async def close(self) -> None:
        """End what still runs here, by force; twice is fine."""
        if self._child is not None:
            await self._child.close()
        self._inbox.refuse(f"{self.name} is stopped")

    async def _start(self, now: float) -> None:
        self.epoch += 1
        self._become(State.STARTING, now)
        self._departure, self._obeyed, self._told, self._warned, self._drifts = None, Wish.RUN, "", False, 0
        self._hung_at = None
        try:  # already its sheet may find no room, or no descriptor: that is no end of the service
            child = Incarnation(self._program, self.epoch, self._limits.drain, self._suspects, self._post, self._wake)
            await child.start(self._on_line)
        except OSError as error:
            self._plan_restart(f"could not be started: {self._program.argv[0]}: {error.strerror}", now, ready_for=0.0)
            return
        self._child = child
        name = "child.started" if self.epoch == 1 else "child.restarted"
        self._tell(name, slot=self.name, pid=child.pid, old_pid=self._old_pid, epoch=self.epoch, reason=self.reason)

    async def _bury(self, child: Incarnation, wish: Wish, now: float) -> None:
        """Draw the conclusions from the end of a process."""
        self._keep_stacks(child)
        await child.close()
        self._child = None
        ending = Ending(child.code, self._departure.why if self._departure else None)
        self._remember(child, ending)
        reason = f"{ending}: {child.refusal.message}" if child.refusal and self.ever_ready else str(ending)
        level = logging.INFO if ending.clean else logging.WARNING
        self._tell("child.ended", level, slot=self.name, pid=child.pid, epoch=self.epoch, reason=reason)
        self._old_pid, self.reason = child.pid, reason
        if self._asked is not None:
            self.reason, self._asked, self._start_at = f"{self._asked}; {reason}", None, now
        elif wish is Wish.RUN and self.refusal is None:
            self._plan_restart(reason, now, ready_for=now - child.ready_at if child.ready_at is not None else 0.0)

    def _keep_stacks(self, child: Incarnation) -> None:
        if self._hung_at is not None and (text := child.sheet.text(self._hung_at)):
            self.last_stacks = text
            self._tell("child.stacks", logging.ERROR, slot=self.name, pid=child.pid, stacks=text.splitlines())

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
        self._restarts.append(now)
        self._start_at, self.reason = now + delay, reason
        if not self.degraded and restart.is_degraded(self._restarts, now):
            self.degraded = True
            self._tell(
                "child.degraded", logging.ERROR, slot=self.name, reason=reason,
                hint=f"more than {restart.BUDGET} restarts within {restart.WINDOW:g} s; it is tried again and again",
            )  # fmt: skip
        self._become(State.DEGRADED if self.degraded else State.BACKOFF, now)
        if delay:
            self._tell("child.backoff", logging.WARNING, slot=self.name, seconds=delay, reason=reason)

    def _judge(self, child: Incarnation, now: float) -> None:
        """Draw the conclusions from what the process said, or did not say."""
        if child.broken:
            self._kill(f"broke the protocol of its pipe: {child.lost}", now)
        elif self._condemned is not None and self._condemned[0] == self.epoch:
            self._kill(self._condemned[1], now)
        elif child.lost is not None and self._departure is None:
            self._departure = Departure.parted(now, self._limits, child.lost)
        elif self._state is State.STARTING:
            self._judge_start(child, now)
        elif self.degraded and child.ready_at is not None and now - child.ready_at >= restart.HEALTHY:
            self.degraded = False
            self._tell("child.recovered", slot=self.name, pid=child.pid)
        self._judge_life(child, now)

    def _judge_start(self, child: Incarnation, now: float) -> None:
        if child.sentence != self._told:
            level = logging.DEBUG if self._told else logging.INFO  # a long wait must not fill the log
            self._told = child.sentence
            self._tell("child.waits", level, slot=self.name, pid=child.pid, sentence=child.sentence)
        if child.refusal is not None and not self.ever_ready:
            self.refusal = child.refusal
        elif child.ready_at is not None:
            self._become(State.READY, now)
            self.ever_ready = True
            seconds = child.ready_at - child.started_at
            self._tell("child.ready", slot=self.name, pid=child.pid, epoch=self.epoch, seconds=seconds)
            self._inbox.deliver(child.request)
        elif now >= self._ready_by(child):
            self._kill(f"was not ready within {self._limits.start:g} s", now)

    def _judge_life(self, child: Incarnation, now: float) -> None:
        if child.feed.drifts > self._drifts:
            self._drifts = child.feed.drifts
            self._tell("state.drift", logging.WARNING, slot=self.name, pid=child.pid, had=child.vitals.version)
        if self._departure is not None:
            return  # its end is planned, and nearer
        diagnosis = child.vitals.diagnose(now, self._limits, child.unread_since)
        if diagnosis.life is Life.HUNG:
            self._tell("child.hung", logging.ERROR, slot=self.name, pid=child.pid, reason=diagnosis.complaint)
            self._end_hung(child, diagnosis.complaint, now)
        elif diagnosis.life is Life.SILENT and not self._warned:
            silent = child.vitals.silent(now)
            self._tell("child.silent", logging.WARNING, slot=self.name, pid=child.pid, seconds=silent)
        self._warned = diagnosis.life is not Life.FINE

    def _end_hung(self, child: Incarnation, complaint: str, now: float) -> None:
        if child.is_stopped:  # it must not go on for a moment only to show where it stands
            self._departure = Departure.killed(now, f"{complaint}, being stopped by a signal")
        elif child.vitals.beats == 0:  # it has not said that it understands the signal for its stacks
            self._departure = Departure.killed(now, complaint)
        else:
            self._hung_at = child.sheet.size
            self._departure = Departure.hung(now, complaint)

    def _ready_by(self, child: Incarnation) -> float:
        return max(child.started_at, child.progressed_at) + self._limits.start

    def _kill(self, why: str, now: float) -> None:
        if self._departure is None or self._departure.why is None:
            self._departure = Departure.killed(now, why)

    def _send_home(self, child: Incarnation, wish: Wish, now: float) -> None:
        """Plan the end of the process, if that is wished since now."""
        if wish <= max(self._obeyed, Wish.STAY):
            return
        worked = self._state is State.READY
        self._become(State.DRAINING, now)
        self._obeyed = wish
        if self._departure is not None and (self._departure.why is not None or wish is Wish.DRAIN):
            return  # its end is planned already, and is nearer
        if wish is Wish.DRAIN:
            self._departure = self._way_home(child, now, worked=worked)
        elif child.joined:
            self._departure = Departure.quick(now, self._limits)
        else:
            self._kill("had not said HELLO when everything had to end at once", now)

    def _send_round(self, child: Incarnation, now: float) -> None:
        """Plan the end of the process, if another one was asked for."""
        if self._asked is not None and self._departure is None:
            worked = self._state is State.READY
            self._become(State.DRAINING, now)
            self._departure = self._way_home(child, now, worked=worked)

    def _way_home(self, child: Incarnation, now: float, *, worked: bool) -> Departure:
        if child.joined:
            return Departure.drain(now, self._limits, worked=worked)
        return Departure.unmet(now, self._limits)

    def _take_steps(self, child: Incarnation, now: float) -> None:
        while self._departure is not None and (act := self._departure.take(now)) is not None:
            if isinstance(act, signal.Signals):
                child.signal(act)
            else:
                child.tell(act)

    def _become(self, state: State, now: float) -> None:
        if state is not self._state:
            self._state, self.since = state, now
