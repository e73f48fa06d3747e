"""The extensions of one process at work, each of their parts bounded in time and none able to end the process."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from notifier import logs
from notifier.bounded import bounded
from notifier.errors import ChildFailed, ConfigurationError
from notifier.extensions.extension import Control, Extension, Schedule
from notifier.extensions.schedule import Run, is_mine, newer, next_due, peers
from notifier.supervision.actions import Handler, Sender
from notifier.supervision.child import Parent

#: Seconds for one hook. A process has 30 seconds to become ready, and 5 beyond its drain before it is killed.
LIMITS = {"on_start": 10.0, "on_shutdown": 3.0}
OTHERWISE = 5.0
#: Seconds for the last hook in a hurry.
HURRIED = 1.0
#: The messages by which processes agree on what one does for all.
RUN, RUNS = "extensions.run", "extensions.runs"
#: Seconds between two looks at what is due and is another's to do.
LOOK = 1.0
#: Who runs extensions.
GROUP = "tier"


class Extensions:
    """What the modules registered, attached to one process: `start`, `ready`, `drain`, `stop`, in this order.

    Stop may come at any time and twice. on_exception hooks hear `exception`; it may be called from anywhere.
    """

    def __init__(self, extensions: Sequence[Extension], parent: Parent, slot: str, epoch: int) -> None:
        self._extensions = extensions
        self._parent = parent
        self._slot = slot
        self._epoch = epoch
        self._runs: dict[str, Run] = {}
        self._starting = True
        self._stopped = False
        self._errands: set[asyncio.Task[None]] = set()
        self._schedules: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Before the first delivery. Raises ConfigurationError of an on_start hook."""
        for extension in self._extensions:
            for name, handler in extension.actions.items():
                self._parent.on(name, self._noting(name, handler))
        if not self._extensions:
            return
        self._parent.on(RUN, self._on_run)
        self._parent.on(RUNS, self._on_runs)
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        for extension in self._extensions:
            for prefix, follower in extension.followers:
                await self._parent.follow(follower, prefix)
        if self._hooks("on_control"):
            await self._parent.follow(self._on_state)
        await self._run_hooks("on_start")
        self._starting = False

    async def ready(self) -> None:
        """The process takes deliveries: hooks, and the first intervals begin. Returns at once."""
        if self._hooks("on_ready"):
            self._errand(self._run_hooks("on_ready"))
        for extension in self._extensions:
            for schedule in extension.schedules:
                self._schedules.append(asyncio.create_task(self._keep(schedule), name=schedule.name))

    async def drain(self) -> None:
        """The process was told to finish. Returns when the hooks are over."""
        self._end_schedules()
        await self._run_hooks("on_drain")

    async def stop(self, *, hurried: bool = False) -> None:
        """The last thing: hooks, then nothing of the extensions runs any more."""
        if self._stopped:
            return
        self._stopped = True
        self._end_schedules()
        await self._run_hooks("on_shutdown", HURRIED if hurried else None)
        rest = [*self._schedules, *self._errands]
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=HURRIED)

    def exception(self, error: BaseException) -> None:
        """Something was raised that nobody expected."""
        if self._hooks("on_exception"):
            self._errand(self._run_hooks("on_exception", None, error))

    def _hooks(self, name: str) -> list[tuple[Extension, Callable[..., Awaitable[Any]]]]:
        return [(extension, hook) for extension in self._extensions for hook in extension.hooks[name]]

    async def _run_hooks(self, name: str, limit: float | None = None, *arguments: Any) -> None:
        """All of that name at once, so that together they take no longer than one may."""
        limit = limit or LIMITS.get(name, OTHERWISE)
        hooks = [self._run_hook(name, extension, hook(*arguments), limit) for extension, hook in self._hooks(name)]
        for refusal in await asyncio.gather(*hooks):
            if refusal is not None and name == "on_start":
                raise refusal
            if refusal is not None:  # too late to refuse the start
                logs.event("extension.failed", logging.ERROR, exc_info=refusal, what=name)

    async def _run_hook(
        self, name: str, extension: Extension, work: Awaitable[Any], limit: float
    ) -> ConfigurationError | None:
        try:
            await self._guarded(f"{extension.module}:{name}", work, limit, telling=name != "on_exception")
        except ConfigurationError as error:
            return ConfigurationError(f"extension {extension.module}: {error}")
        return None

    async def _guarded(self, what: str, work: Any, limit: float, *, telling: bool = True) -> None:
        """Run the user's code; what comes of it ends here, but for ConfigurationError."""
        try:
            await bounded(work, limit)
        except TimeoutError as error:
            logs.event("extension.cut", logging.WARNING, what=what, seconds=limit, hint="it took longer than it may")
            self._tell_exception(TimeoutError(f"{what} took longer than {limit:g} s"), error, telling)
        except ConfigurationError:
            raise
        except Exception as error:
            logs.event("extension.failed", logging.ERROR, exc_info=error, what=what)
            self._tell_exception(error, error, telling)

    def _tell_exception(self, error: Exception, cause: Exception, telling: bool) -> None:
        if telling:  # what fails in on_exception itself is only logged
            error.__cause__ = cause if error is not cause else error.__cause__
            self.exception(error)

    def _noting(self, name: str, handler: Handler) -> Handler:
        """The handler, with the on_control and on_exception hooks told."""

        async def handle(value: Any, sender: Sender) -> Any:
            self._note(Control("action", name, value, sender))
            try:
                return await handler(value, sender)
            except Exception as error:
                self.exception(error)
                raise

        return handle

    async def _on_state(self, key: str, value: Any) -> None:
        if not self._starting:
            self._note(Control("state", key, value))

    def _note(self, control: Control) -> None:
        """Not awaited: a hook must not delay what the control line changes."""
        if self._hooks("on_control"):
            self._errand(self._run_hooks("on_control", None, control))

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        if isinstance(error, Exception):
            self.exception(error)

    def _errand(self, work: Any) -> None:
        if self._stopped:
            work.close()
            return
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errand_over)

    def _errand_over(self, task: asyncio.Task[None]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.event("extension.failed", logging.ERROR, exc_info=error, what="a hook")

    def _end_schedules(self) -> None:
        for task in self._schedules:
            task.cancel()

    async def _keep(self, schedule: Schedule) -> None:
        """Run it again and again, one run after the other."""
        if schedule.by == "one":
            await self._learn_runs()
        latest = time.monotonic()
        while True:
            due = next_due(self._latest(schedule, latest), schedule.interval, schedule.jitter, random.random())
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if schedule.by == "one" and not await self._is_mine(schedule):
                await asyncio.sleep(min(LOOK, schedule.interval / 4))
                continue
            await self._run(schedule)
            latest = time.monotonic()

    def _latest(self, schedule: Schedule, here: float) -> float:
        """When it was done last, or since when this process waits for it."""
        known = self._runs.get(schedule.name)
        return here if known is None else known.latest

    async def _is_mine(self, schedule: Schedule) -> bool:
        try:
            status = await self._parent.control("status", timeout=5.0)
        except ChildFailed:
            return False
        last, now = self._runs.get(schedule.name), time.monotonic()
        if last is not None and now < next_due(last.latest, schedule.interval, schedule.jitter, 0.0):
            return False  # done elsewhere, as was heard a moment ago
        return is_mine(self._slot, peers(status, GROUP), last, now, schedule.timeout)

    async def _run(self, schedule: Schedule) -> None:
        began = time.monotonic()
        if schedule.by == "one":
            await self._spread(schedule, Run(self._slot, self._epoch, began))  # before: it may end this process
        try:
            await self._guarded(schedule.name, schedule.task(), schedule.timeout)
        except ConfigurationError as error:  # too late to refuse the start
            logs.event("extension.failed", logging.ERROR, exc_info=error, what=schedule.name)
        if schedule.by == "one":
            await self._spread(schedule, Run(self._slot, self._epoch, began, time.monotonic()))

    async def _spread(self, schedule: Schedule, run: Run) -> None:
        self._runs[schedule.name] = run
        try:
            await self._parent.tell("others", RUN, {"schedule": schedule.name, "run": run.shown()})
        except ChildFailed:
            return  # the master is gone, and this process will drain

    async def _learn_runs(self) -> None:
        """A process that was started anew learns when the others did what, so that nothing is done too soon."""
        try:
            replies = await self._parent.ask("others", RUNS, timeout=2.0)
        except ChildFailed:
            return
        for reply in replies:
            if isinstance(reply.data, dict):
                for name, shown in reply.data.items():
                    self._hear(name, shown)

    async def _on_run(self, value: Any, _: Sender) -> None:
        match value:
            case {"schedule": str(name), "run": shown}:
                self._hear(name, shown)

    async def _on_runs(self, _: Any, __: Sender) -> dict[str, Any]:
        return {name: run.shown() for name, run in self._runs.items()}

    def _hear(self, name: str, shown: Any) -> None:
        if (heard := newer(self._runs.get(name), Run.read(shown))) is not None:
            self._runs[name] = heard
