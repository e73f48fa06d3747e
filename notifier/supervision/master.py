"""The set of children: started together, each kept alive in its slot, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from notifier import logs
from notifier.supervision.departure import Limits
from notifier.supervision.incarnation import Program
from notifier.supervision.lines import OnLine
from notifier.supervision.slot import Slot, State, Tell, Wish


def to_stderr(line: str) -> None:
    """Print one line for whoever started the service."""
    with contextlib.suppress(OSError):  # nobody reads it any more; the children matter more
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Master:
    """Runs the programs until it is told to stop, or one of them cannot start.

    One loop decides. Signals, exits, frames and `stop` only note what happened and wake it.

    on_event: who hears events, in the shape of `logs.event`. announce: gets the line `ready` when every child is ready
    for the first time, and why the service cannot start. on_line: gets what the children print, which else goes
    straight to this process's stdout and stderr. signals: those that mean `stop`.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        limits: Limits | None = None,
        *,
        on_event: Tell = logs.event,
        announce: Callable[[str], None] = to_stderr,
        on_line: OnLine | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        self.all_ready = asyncio.Event()
        self._tell = on_event
        self._announce = announce
        self._signals = signals
        self._woken = asyncio.Event()
        self._stops: deque[str] = deque()
        self._wish = Wish.RUN
        self._code = 0
        self._slots = [
            Slot(program, limits or Limits(), wake=self._woken.set, tell=on_event, on_line=on_line)
            for program in programs
        ]

    @property
    def slots(self) -> Sequence[Slot]:
        """The children's places, in the order of the programs."""
        return self._slots

    async def run(self) -> int:
        """Start all children and return when all have ended: 0 after a stop, else the code of who cannot start.

        Cancelled or failing, it ends the children by force before it lets go. Can be called once.
        """
        loop = asyncio.get_running_loop()
        with self._signals_noted():
            try:
                while True:
                    self._woken.clear()  # before looking: what happens from here on wakes the next round
                    self._obey_stops()
                    for slot in self._slots:
                        await slot.reconcile(self._wish, loop.time())
                    self._heed_refusals()
                    self._announce_ready()
                    if self._over():
                        break
                    await self._next_round()
            finally:
                await asyncio.gather(*(slot.close() for slot in self._slots))
        self._tell("service.stopped", code=self._code)
        return self._code

    def stop(self, reason: str = "asked to") -> None:
        """First call: drain. Second: leave at once what is unfinished. Does not wait; `run` returns when it is done."""
        self._stops.append(reason)
        self._woken.set()

    def _over(self) -> bool:
        return all(slot.state is State.STOPPED for slot in self._slots)

    def _obey_stops(self) -> None:
        while self._stops:
            self._rise(Wish.QUICK if self._wish else Wish.DRAIN, self._stops.popleft())

    def _rise(self, wish: Wish, reason: str) -> None:
        if wish > self._wish:
            self._wish = wish
            self._tell("service.stopping", how="quickly" if wish is Wish.QUICK else "draining", reason=reason)

    def _heed_refusals(self) -> None:
        """A child that cannot start ends the service, and its reason is told once, whoever else has the same one."""
        refusal = next((slot.refusal for slot in self._slots if slot.refusal is not None), None)
        if refusal is None or self._wish is not Wish.RUN:
            return
        self._code = refusal.code
        for line in refusal.message.splitlines():
            self._announce(f"notifier: {line}")
        self._rise(Wish.DRAIN, "a process cannot start")
        self._woken.set()

    def _announce_ready(self) -> None:
        if not self.all_ready.is_set() and all(slot.state is State.READY for slot in self._slots):
            self.all_ready.set()
            self._tell("service.ready", processes=len(self._slots))
            self._announce("ready")

    async def _next_round(self) -> None:
        """Wait until something happened, or the next deadline of a slot."""
        due = min((slot.due for slot in self._slots if slot.due is not None), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._woken.wait()

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self.stop, number.name)
        try:
            yield
        finally:
            for number in self._signals:
                loop.remove_signal_handler(number)
