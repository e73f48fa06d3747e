"""The set of children: started together, each kept alive in its slot, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from notifier import logs
from notifier.errors import InvalidInput, NotifierError
from notifier.supervision import addresses, moments, push, relay, rolling, runtime, status
from notifier.supervision.actions import Reply, Sender
from notifier.supervision.cast import Cast
from notifier.supervision.channel import Body
from notifier.supervision.control import Control
from notifier.supervision.departure import Limits
from notifier.supervision.desired import Desired
from notifier.supervision.incarnation import Post, Program
from notifier.supervision.lines import OnLine
from notifier.supervision.slot import WATCH, Slot, State, Tell, Wish
from notifier.supervision.verbs import OPERATOR, Verbs

#: Reloads what can change while the service runs. Returns {"live": […], "restart": […]}: what changed now, and what
#: needs a restart. Raises NotifierError if the new settings cannot be used; then nothing has changed.
Reload = Callable[[], Awaitable[Mapping[str, Any]]]

#: Says of a word what is to run from now on; the composition knows what the word means. Raises NotifierError.
Recast = Callable[[Any], Sequence[Program]]

#: Seconds between two rounds after which the master itself was away, and no child is to blame for its silence.
AWAY = 5.0


def to_stderr(line: str) -> None:
    """Print one line for whoever started the service."""
    with contextlib.suppress(OSError):  # nobody reads it any more; the children matter more
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Master:
    """Runs the programs until it is told to stop, or one of them cannot start.

    One loop decides. Signals, exits, frames and requests only note what happened and wake it.

    runtime_directory: where the control socket and the state file are; None: there are none. reload: see `Reload`;
    SIGHUP asks for it, too. recast: see `Recast`; a child may give it the word. on_event: who hears events, in the
    shape of `logs.event`. announce: gets the line `ready` when every child is ready for the first time, and why the
    service cannot start. on_line: gets what the children print, which else goes straight to this process's stdout and
    stderr. signals: those that mean `stop`.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        limits: Limits | None = None,
        *,
        runtime_directory: Path | None = None,
        reload: Reload | None = None,
        recast: Recast | None = None,
        on_event: Tell = logs.event,
        announce: Callable[[str], None] = to_stderr,
        on_line: OnLine | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        self.all_ready = asyncio.Event()
        self.desired = Desired()
        self._limits = limits or Limits()
        self._directory = runtime_directory
        self._reload = reload
        self._recast = recast
        self._on_event = on_event
        self._announce = announce
        self._signals = signals
        self._woken = asyncio.Event()
        self._round = asyncio.Event()
        self._stops: deque[tuple[Wish, str]] = deque()
        self._wish = Wish.RUN
        self._code = 0
        self._since = time.time()
        self._looked_at: float | None = None
        self._verbs = Verbs(self)
        self._kept = runtime.Kept(runtime_directory, self.desired, self._tell)
        self._control: Control | None = None
        self._errands: set[asyncio.Task[Any]] = set()
        self._rolling = asyncio.Lock()
        self._post = Post(self.desired, self._from_child)
        self._on_line = on_line
        self._cast = Cast(programs, self._slot)

    @property
    def slots(self) -> Sequence[Slot]:
        """The children's places, in the order of the programs."""
        return self._cast.slots

    async def run(self) -> int:
        """Start all children and return when all have ended: 0 after a stop, else the code of who cannot start.

        Cancelled or failing, it ends the children by force before it lets go. Can be called once.
        Raises AlreadyRunning or BadRuntimeDirectory before anything has been started.
        """
        loop = asyncio.get_running_loop()
        with self._signals_noted():
            async with self._open():
                while True:
                    self._woken.clear()  # before looking: what happens from here on wakes the next round
                    self._notice_absence(loop.time())
                    self._obey_stops()
                    self._tend_state()
                    for slot in self.slots:
                        await slot.reconcile(self._wish_for(slot), loop.time())
                    self._cast.tidy()
                    self._heed_refusals()
                    self._announce_ready()
                    self._end_round()
                    if self._over():
                        break
                    await self._next_round()
        self._tell("service.stopped", code=self._code)
        return self._code

    def stop(self, reason: str = "asked to") -> None:
        """First call: drain. Second: leave at once what is unfinished. Does not wait; `run` returns when it is done."""
        self._stops.append((Wish.DRAIN, reason))
        self._woken.set()

    def quick(self, reason: str = "asked to") -> None:
        """Stop, and leave at once what is unfinished."""
        self._stops.append((Wish.QUICK, reason))
        self._woken.set()

    def renew(self, programs: Sequence[Program]) -> None:
        """Start the next incarnations of the slots of that name with these programs."""
        fresh = {program.slot: program for program in programs}
        for slot in self.slots:
            if slot.name in fresh:
                slot.renew(fresh[slot.name])

    def status(self) -> dict[str, Any]:
        """The service and its slots, as JSON."""
        now, wall = asyncio.get_running_loop().time(), time.time()
        state = "stopping" if self._wish else "running" if self.all_ready.is_set() else "starting"
        return {
            "pid": os.getpid(),
            "since": moments.shown(self._since),
            "state": state,
            "version": self.desired.version,
            "saved": self._kept.saved,
            "state_entries": len(self.desired.present()),
            "slots": [status.of_slot(slot, now, wall, self.desired.version) for slot in self.slots],
        }

    async def push(
        self,
        key: str,
        value: Any,
        *,
        who: str,
        why: str | None = None,
        until: float | None = None,
        timeout: float = 5.0,
        critical: bool = False,
    ) -> dict[str, Any]:
        """Set a key of the desired state, or clear it with None, and wait until every process has it.

        until: Unix seconds at which it ends by itself. timeout: seconds for each process. critical: see `push.reach`.
        Returns, as JSON, the version, whether it would survive the death of this process, and the result per slot.
        Raises InvalidInput; then nothing has changed.
        """
        entry = self.desired.push(key, value, time.time(), who=who, why=why, until=until)
        self._tell("state.pushed", logging.DEBUG, key=key, version=entry.version, who=who)
        saved, slots = await asyncio.gather(
            self._kept.save(), push.reach(self.slots, entry, timeout=timeout, critical=critical)
        )
        return {"key": key, "version": entry.version, "saved": saved, "slots": slots}

    async def send(
        self, to: str, action: str, data: Any, *, timeout: float = 30.0, reply: bool = True, sender: Sender = OPERATOR
    ) -> list[Reply]:
        """Send a message to whom `to` addresses. Raises BadAddress."""
        slots = addresses.resolve(to, self.slots, sender.slot, random.choice)
        return await relay.send(slots, action, data, sender, timeout=timeout, reply=reply)

    async def restart(self, to: str = "all", *, who: str) -> list[dict[str, Any]]:
        """Restart slot by slot, the next one only when this one is ready again; one such restart at a time.

        Ends with the first slot that does not become ready; the others are then left alone. Raises BadAddress.
        """
        slots = addresses.resolve(to, self.slots, "", random.choice)
        async with self._rolling:
            return await rolling.restart(slots, f"restart asked for by {who}", self._limits, self._until)

    async def drain(self, to: str) -> list[dict[str, Any]]:
        """Let slots finish and start nothing there until `restart`. Raises BadAddress."""
        slots = addresses.resolve(to, self.slots, "", random.choice)
        return await rolling.drain(slots, self._limits, self._until)

    async def stacks(self, to: str) -> list[dict[str, Any]]:
        """Where the processes stand just now; of a slot without one, where the last one stood that hung."""
        return list(await asyncio.gather(*map(_stacks, addresses.resolve(to, self.slots, "", random.choice))))

    async def reload(self, who: str) -> dict[str, Any]:
        """Ask the composition to take over new settings. Raises what it raises."""
        if self._reload is None:
            raise InvalidInput("this service has no settings that it could read again")
        done = dict(await self._reload())
        self._tell("service.reloaded", who=who, **done)
        return done

    def recast(self, word: Any) -> dict[str, Any]:
        """Let the composition say what is to run from now on. Raises what it raises."""
        if self._recast is None:
            raise InvalidInput("this service always consists of the same processes")
        new, gone = self._cast.change(self._recast(word))
        if new or gone:
            self._tell("service.recast", new=new or None, gone=gone or None)
        self._woken.set()
        return {"new": new, "gone": gone}

    def audit(self, level: int, **fields: Any) -> None:
        """Write the line about one request."""
        self._tell("control", level, **fields)

    async def _from_child(self, sender: Sender, name: str, body: Body) -> Body:
        if name == "send":
            return await self._verbs.ask(str(sender), "send", body, sender)
        match body:
            case {"verb": str(verb), "body": dict(words)}:
                who = f"{words['who']}, by {sender}" if isinstance(words.get("who"), str) else str(sender)
                return await self._verbs.ask(who, verb, words, sender)
        raise InvalidInput("a request needs a verb and a body")

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        """Hold the runtime directory and listen there; at the end leave no child and no errand behind."""
        with contextlib.ExitStack() as stack:
            if self._directory is not None:
                stack.enter_context(runtime.held(self._directory))
                self._kept.restore()
                self._control = Control(self._directory, self._verbs.ask)
                await self._control.start()
            try:
                yield
            finally:
                await asyncio.gather(*(slot.close() for slot in self.slots))
                self._end_round()
                if self._control is not None:
                    await self._control.close()
                for errand in self._errands:
                    errand.cancel()
                await asyncio.gather(*self._errands, return_exceptions=True)

    def _slot(self, program: Program) -> Slot:
        return Slot(program, self._limits, self._post, wake=self._woken.set, tell=self._tell, on_line=self._on_line)

    def _over(self) -> bool:
        return self._wish is not Wish.RUN and all(slot.state is State.STOPPED for slot in self.slots)

    def _notice_absence(self, now: float) -> None:
        """After a time in which this process itself stood still, its children are not silent, only unheard."""
        if self._looked_at is not None and now - self._looked_at > WATCH + AWAY:
            self._tell("master.away", logging.WARNING, seconds=now - self._looked_at)
            for slot in self.slots:
                slot.forgive(now - self._looked_at)
        self._looked_at = now

    def _obey_stops(self) -> None:
        while self._stops:
            wish, reason = self._stops.popleft()
            self._rise(Wish.QUICK if self._wish else wish, reason)

    def _rise(self, wish: Wish, reason: str) -> None:
        if wish > self._wish:
            self._wish = wish
            self._tell("service.stopping", how="quickly" if wish is Wish.QUICK else "draining", reason=reason)

    def _wish_for(self, slot: Slot) -> Wish:
        """Draining goes by rank: who is needed by others stays until those are over, but is not started any more."""
        if self._wish is not Wish.DRAIN or not slot.is_working:
            return self._wish
        unfinished = min((one.program.rank for one in self.slots if one.state is not State.STOPPED), default=0)
        return Wish.DRAIN if slot.program.rank <= unfinished else Wish.STAY

    def _tend_state(self) -> None:
        """End what ends by itself, keep what could not be kept yet, and forget the gravestones that nobody needs."""
        if not self._kept.saved:
            self._run_errand(self._kept.save())
        for entry in self.desired.expire(time.time()):
            self._tell("state.ended", key=entry.key, who=entry.who, why=entry.why, version=self.desired.version)
            self._run_errand(self._kept.save())
            for slot in self.slots:
                if slot.child is not None:
                    slot.child.feed.poke()
        fed = [slot.child.feed.known for slot in self.slots if slot.child is not None and slot.child.lost is None]
        self.desired.forget(min(fed, default=self.desired.version))

    def _heed_refusals(self) -> None:
        """A child that cannot start ends the service, and its reason is told once, whoever else has the same one."""
        refusal = next((slot.refusal for slot in self.slots if slot.refusal is not None), None)
        if refusal is None or self._wish is not Wish.RUN:
            return
        self._code = refusal.code
        for line in refusal.message.splitlines():
            self._announce(f"notifier: {line}")
        self._rise(Wish.DRAIN, "a process cannot start")
        self._woken.set()

    def _announce_ready(self) -> None:
        if not self.all_ready.is_set() and self.slots and all(slot.is_working for slot in self.slots):
            self.all_ready.set()
            self._tell("service.ready", processes=len(self.slots))
            self._announce("ready")

    def _end_round(self) -> None:
        self._round.set()
        self._round = asyncio.Event()

    async def _until(self, look: Callable[[], bool], timeout: float) -> bool:
        """Wait for something that is so after a round; False if it is not in time, or everything stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not look():
                    if self._wish is not Wish.RUN:
                        return False
                    await self._round.wait()
                return True
        return False

    async def _next_round(self) -> None:
        """Wait until something happened, or the next deadline of a slot or of the desired state.

        At most `WATCH` seconds: a longer time between two rounds means that this process stood still.
        """
        now = asyncio.get_running_loop().time()
        moments = [now + WATCH, *(slot.due for slot in self.slots if slot.due is not None)]
        if (end := self.desired.next_end) is not None:
            moments.append(now + max(end - time.time(), 0))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(moments)):
                await self._woken.wait()

    def _tell(self, name: str, /, level: int = logging.INFO, **fields: Any) -> None:
        self._on_event(name, level, **fields)
        if self._control is not None and self._control.followed:
            event = {"ts": moments.shown(time.time()), "event": name, "level": logging.getLevelName(level).lower()}
            self._control.tell({**json.loads(json.dumps(fields, default=str)), **event})

    def _run_errand(self, errand: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _reload_for_signal(self) -> None:
        with contextlib.suppress(NotifierError):  # the audit line says why
            await self._verbs.ask("SIGHUP", "reload", {})

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        noted = list(self._signals)
        for number in noted:
            loop.add_signal_handler(number, self.stop, number.name)
        if noted and self._reload is not None:
            noted.append(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, lambda: self._run_errand(self._reload_for_signal()))
        try:
            yield
        finally:
            for number in noted:
                loop.remove_signal_handler(number)


async def _stacks(slot: Slot) -> dict[str, Any]:
    if slot.child is None:
        return {"slot": slot.name, "result": "gone", "last": slot.last_stacks}
    here = {"slot": slot.name, "epoch": slot.epoch, "pid": slot.pid}
    try:
        return {**here, "text": await slot.child.stacks()}
    except NotifierError as error:
        return {**here, "result": "error", "error": str(error), "last": slot.last_stacks}
