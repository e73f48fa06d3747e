"""What a module of the user's registers, and what it can say to the other processes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from notifier.errors import ConfigurationError, InvalidInput
from notifier.extensions.schedule import By
from notifier.supervision.actions import Handler, Reply, Sender
from notifier.supervision.mirror import Follower

#: Keys of the desired state that belong to extensions begin so.
KEYS = "x/"
#: The moments of a tier process's life in which hooks run.
HOOKS = ("on_start", "on_ready", "on_control", "on_exception", "on_drain", "on_shutdown")
#: Shortest interval of a schedule, seconds.
SHORTEST = 0.1

Task = Callable[[], Awaitable[Any]]
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


class Line(Protocol):
    """The way to the other processes; `supervision.child.Parent` is one."""

    @property
    def state(self) -> Mapping[str, Any]: ...

    async def ask(self, to: str, action: str, data: Any = None, timeout: float = 30.0) -> list[Reply]: ...

    async def tell(self, to: str, action: str, data: Any = None) -> list[Reply]: ...

    async def control(
        self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0
    ) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Control:
    """Something came over the control line. kind: `state`, a key that was set or cleared (value None), or `action`, a
    message with its data. sender: of a message.
    """

    kind: Literal["state", "action"]
    name: str
    value: Any
    sender: Sender | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A task every `interval` seconds. timeout: seconds for one run, which is cut then."""

    name: str
    task: Task
    interval: float
    by: By
    jitter: float
    timeout: float


class Extension:
    """Handed to a module's `register`, once in every tier process. Register there; talk from handlers on.

    module: whose it is. slot: where it runs, such as `tier:5s`. epoch: of this process. Everything registered is a
    coroutine function; registering something that is none, or a name twice, raises ConfigurationError, which ends the
    service with a sentence and exit code 78.
    """

    def __init__(self, module: str, slot: str, epoch: int, line: Line) -> None:
        self.module = module
        self.slot = slot
        self.epoch = epoch
        self.actions: dict[str, Handler] = {}
        self.followers: list[tuple[str, Follower]] = []
        self.hooks: dict[str, list[Callable[..., Awaitable[Any]]]] = {name: [] for name in HOOKS}
        self.schedules: list[Schedule] = []
        self._line = line

    def action(self, name: str) -> Callable[[Function], Function]:
        """`async (data, sender) -> JSON value`: works on messages of that name, which `notifier ctl send`, other
        processes and `ask` here send. Several run at once. What it raises is the sender's error.
        """

        def register(function: Function) -> Function:
            if name in self.actions:
                raise ConfigurationError(f"extension {self.module}: the action {name!r} is registered twice")
            self._check(function)
            self.actions[name] = function
            return function

        return register

    def follow(self, key: str) -> Callable[[Function], Function]:
        """`async (key, value) -> None`: hears of every key of the desired state that begins with `x/` and `key`, at the
        start and whenever it changes; value None when it was cleared. A change counts as applied when it returns.
        """

        def register(function: Function) -> Function:
            self._check(function)
            self.followers.append((KEYS + key.removeprefix(KEYS), function))
            return function

        return register

    def on_start(self, function: Function) -> Function:
        """`async ()`: before the first delivery. ConfigurationError raised here ends the service with its sentence."""
        return self._hook("on_start", function)

    def on_ready(self, function: Function) -> Function:
        """`async ()`: this process takes deliveries."""
        return self._hook("on_ready", function)

    def on_control(self, function: Function) -> Function:
        """`async (control)`: something came over the control line (the articles' onPipeReadable); see `Control`."""
        return self._hook("on_control", function)

    def on_exception(self, function: Function) -> Function:
        """`async (error)`: something raised what nobody expected: a callback of the user's own, a hook, a schedule, a
        task nobody waits for, or notifier itself.
        """
        return self._hook("on_exception", function)

    def on_drain(self, function: Function) -> Function:
        """`async ()`: this process was told to finish, by SIGTERM too (onSigTerm); what runs is still running."""
        return self._hook("on_drain", function)

    def on_shutdown(self, function: Function) -> Function:
        """`async ()`: the last thing before it exits (onShutDown); not after a kill -9, which nothing can see."""
        return self._hook("on_shutdown", function)

    def every(
        self, seconds: float, *, by: By, jitter: float = 0.1, timeout: float = 60.0
    ) -> Callable[[Function], Function]:
        """`async ()`: runs every so many seconds from the start on, the first time after an interval; never while its
        last run still goes on, from whose end the next interval counts.

        by: `all` runs it in each tier process; `one` in a single one of this machine, and if that dies, in another
        within an interval. jitter: share of the interval by which each is moved at random. timeout: seconds for a run.
        """
        if by not in ("one", "all"):
            raise ConfigurationError(f"extension {self.module}: a schedule is done by 'one' or 'all', not {by!r}")
        if not SHORTEST <= seconds <= 7 * 86_400 or not 0 <= jitter <= 0.5 or not 0 < timeout <= 86_400:
            raise ConfigurationError(
                f"extension {self.module}: a schedule has an interval from {SHORTEST:g} s to a week, a jitter from 0 "
                "to 0.5 and a timeout of at most a day"
            )

        def register(function: Function) -> Function:
            name = f"{self.module}:{getattr(function, '__name__', 'task')}"
            if any(schedule.name == name for schedule in self.schedules):
                raise ConfigurationError(f"extension {self.module}: two schedules have the name {name!r}")
            self._check(function)
            self.schedules.append(Schedule(name, function, float(seconds), by, float(jitter), float(timeout)))
            return function

        return register

    @property
    def state(self) -> Mapping[str, Any]:
        """The desired state as it is here, all keys."""
        return self._line.state

    async def ask(self, to: str, action: str, data: Any = None, timeout: float = 30.0) -> list[Reply]:
        """Send a message and wait for the reply of each process addressed: a slot, `tier`, `tier:5s`, `all`, `others`,
        `any`. Raises ChildFailed if the master is gone or nobody has that address.
        """
        return await self._line.ask(to, action, data, timeout)

    async def tell(self, to: str, action: str, data: Any = None) -> list[Reply]:
        """Send a message and do not wait for its effect. A process that is not ready yet gets it when it is."""
        return await self._line.tell(to, action, data)

    async def push(self, key: str, value: Any, timeout: float = 5.0) -> Mapping[str, Any]:
        """Set the key `x/…` of the desired state for all processes, those that will be started too; None clears it.

        Returns {"version": …, "slots": [{"slot", "result": "applied" | "error" | "timeout" | "gone"}, …]}. Not to be
        awaited in a follower, since its own change waits for that.
        """
        if not key.startswith(KEYS):
            raise InvalidInput(f"keys of extensions begin with {KEYS!r}, and {key[:100]!r} does not")
        verb, body = ("clear", {}) if value is None else ("push", {"value": value})
        return await self._line.control(verb, {"key": key, "timeout": timeout, **body}, timeout=timeout + 10)

    def _hook(self, name: str, function: Function) -> Function:
        self._check(function)
        self.hooks[name].append(function)
        return function

    def _check(self, function: Callable[..., Any]) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"extension {self.module}: {getattr(function, '__name__', function)!r} is not a coroutine function; "
                "write `async def`"
            )
