"""The child's end: what a process that runs in a slot says to the master, and hears from it.

The order of a life: `join` (HELLO, the snapshot is the answer), `ready`, work, `draining` is set, finish, `close`, exit
with 0. A child outlives its master only by its drain, and a stuck event loop only by `STUCK` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from notifier import logs
from notifier.errors import BadFrame, ChildFailed, NoAnswer, PeerBusy, PeerGone
from notifier.supervision import stacks
from notifier.supervision.actions import Actions, Handler, Reply
from notifier.supervision.channel import Body, Channel
from notifier.supervision.mirror import Follower, Mirror
from notifier.supervision.suspects import KEY_LIMIT

#: Spoken by both ends; a HELLO with another one is refused.
PROTOCOL = 2
#: Seconds the event loop may be stuck before the process prints its stacks and ends itself. Longer than the master
#: waits, whose log then has the stacks and the reason.
STUCK = 40.0
#: Seconds between two heartbeats.
BEAT = 1.0
#: Seconds that the master may take longer over a message than the message itself may.
RELAY_GRACE = 2.0
#: Seconds for the whole desired state to arrive.
STATE_PATIENCE = 30.0
#: Seconds the master may take for an answer before the child treats it as gone.
PATIENCE = 10.0
#: Seconds until a master that did not answer is asked again.
AGAIN = 1.0
#: Seconds between `quick` and the end by force, for a child whose master is gone.
LAST_GRACE = 5.0


def guard() -> None:
    """End this process with a dump of its stacks unless this is called again within `STUCK` seconds.

    A thread without the interpreter lock does it, so it works even while a C call holds that lock. Call it first
    in a child, before slow imports; from `join` on the event loop calls it each second.
    """
    faulthandler.dump_traceback_later(STUCK, exit=True)


def _nothing() -> Mapping[str, Any]:
    return {}


class Parent:
    """The child's view of the master. Made by `join`.

    boot: what the composition gave this slot. careful: 0 if the last incarnation ended cleanly, 1 if it died, 2 if it
    died while careful with not exactly one key claimed. deaths: how often each key was alone claimed at a death.
    draining: set when this process shall finish, also by SIGTERM and when the master is gone. quick: set when it shall
    leave at once what is unfinished; then draining is set, too.
    state: the desired state, complete when `join` returns. statistics: called for each heartbeat, returns JSON.
    """

    boot: Mapping[str, Any]
    careful: int
    deaths: Mapping[str, int]

    def __init__(self, *, own_process: bool) -> None:
        self.draining = asyncio.Event()
        self.quick = asyncio.Event()
        self.statistics: Callable[[], Mapping[str, Any]] = _nothing
        self.state = Mirror()
        self._paused = False
        self._actions = Actions()
        self._own_process = own_process
        self._drain_seconds = 0.0
        self._met = False
        self._closing = False
        self._channel: Channel
        self._alone: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, fd: int, slot: str, epoch: int, *, own_process: bool = True) -> Parent:
        """Say HELLO over the inherited `fd` and wait for the snapshot and the whole desired state.

        own_process False leaves signals and the guard alone: for tests that play a child inside their own process.
        Raises ChildFailed (PeerGone, NoAnswer, RequestFailed) if the master is gone, stops or refuses the HELLO.
        """
        parent = cls(own_process=own_process)
        if own_process:
            parent._take_signals()
        parent._heartbeat = asyncio.create_task(parent._beat())
        pipe = socket.socket(fileno=fd)
        pipe.set_inheritable(False)  # a program started by this process must not keep the pipe open
        parent._channel = await Channel.open(pipe, parent)
        hello = {"protocol": PROTOCOL, "slot": slot, "epoch": epoch, "pid": os.getpid()}
        try:
            parent._accept(await parent._channel.ask("hello", hello, timeout=PATIENCE))
            parent._met = True
            parent._say_beat()
            await parent._whole_state()
        except ChildFailed:
            await parent.close()
            raise
        return parent

    async def ready(self) -> None:
        """This process does its work now. Returns when the master has it; if that is gone, draining says so.

        The master has the statistics of this moment first.
        """
        self._say_beat()
        with contextlib.suppress(ChildFailed):
            await self._channel.ask("ready", timeout=PATIENCE)

    @property
    def paused(self) -> bool:
        """Whether this process does no work for now; to be set by it, and shown by the master at once."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        changed, self._paused = paused is not self._paused, paused
        if changed and self._met:
            self._say_beat()

    @property
    def version(self) -> int:
        """The version of the desired state that is applied here."""
        return self.state.version

    def on(self, action: str, handler: Handler) -> None:
        """Work on messages of that name with `handler`; register before `ready`. Raises ValueError for a second one.

        Messages are worked on concurrently. What the handler returns is the reply; what it raises is its error.
        """
        self._actions.on(action, handler)

    async def follow(self, follower: Follower, prefix: str = "") -> None:
        """Call `follower` with every key that has this prefix and its value, now and whenever it changes; the value is
        None for a key that was cleared. Call this before the first work: changes count as applied without it.

        Changes come one after the other, and count as applied when `follower` has returned. What it raises later is
        this slot's error for that key, and the change comes again after some seconds; what it raises now is raised.
        """
        await self.state.follow(follower, prefix)

    async def ask(self, to: str, action: str, data: Any = None, timeout: float = 30.0) -> list[Reply]:
        """Send a message and wait for what came of it in each slot addressed, at most `timeout` seconds.

        Raises RequestFailed for an address nobody has, PeerGone or NoAnswer if the master is gone, BadFrame for data
        that is no JSON or too long.
        """
        return await self._send(to, action, data, timeout, reply=True)

    async def ask_one(self, to: str, action: str, data: Any = None, timeout: float = 30.0) -> Any:
        """Like `ask`, for an address of one slot: returns the reply's data, and raises NoAnswer, PeerGone, PeerBusy or
        RequestFailed for any other result.
        """
        replies = await self.ask(to, action, data, timeout)
        if len(replies) != 1:
            raise ValueError(f"{to!r} addresses {len(replies)} slots")
        return replies[0].value()

    async def tell(self, to: str, action: str, data: Any = None) -> list[Reply]:
        """Send a message without waiting for its effect; says for each slot whether it was sent, waits until that slot
        is ready, or could not be taken. Raises like `ask`.
        """
        return await self._send(to, action, data, PATIENCE, reply=False)

    async def control(self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0) -> Body:
        """Ask the master what operators can ask it through the control socket. Raises like `ask`.

        `who` in the body: for whom this process asks, for the log and for those who look at what was set.
        """
        return await self._channel.ask("control", {"verb": verb, "body": dict(body or {})}, timeout=timeout)

    async def progress(self, sentence: str) -> None:
        """Starting takes longer, for a reason a person can read; gives this process more time to become ready."""
        with contextlib.suppress(ChildFailed):
            self._channel.tell("progress", {"sentence": sentence})

    async def claim(self, keys: Sequence[str]) -> None:
        """This process works on `keys` now and on nothing else; replaces the previous claim.

        Returns when the master has it, so that the claim outlives this process: claim first, work then. Keys are
        opaque, of at most 256 characters (else ValueError). A master that stands still is asked again for as long as
        that takes. Raises PeerGone if it is gone, and RequestFailed if it refuses: then do not start the work.
        """
        if any(len(key) > KEY_LIMIT for key in keys):
            raise ValueError(f"a claimed key has at most {KEY_LIMIT} characters")
        await self._insist("claim", {"keys": list(keys)})

    async def calm(self) -> None:
        """What was suspect is behind this process, and it claims nothing any more. Waits and raises as `claim`."""
        await self._insist("calm")

    async def refuse(self, code: int, message: str) -> None:
        """This process cannot start and starting it again cannot help. Exit with `code` afterwards.

        If this slot was never ready, the master ends the service with `code` and tells `message` once.
        A master that is gone is no error here: there is nobody left to tell.
        """
        with contextlib.suppress(ChildFailed):
            await self._channel.ask("refuse", {"code": code, "message": message}, timeout=PATIENCE)

    async def close(self) -> None:
        """Say nothing more; twice is fine. The guard stays armed, so that an exit cannot get stuck either."""
        self._closing = True
        tasks = [task for task in (self._alone, self._heartbeat) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._channel.close()

    def noticed(self, name: str, body: Body) -> None:
        """Called by the channel: the master told something."""
        match name:
            case "drain":
                self.draining.set()
            case "quick":
                self._hurry()
            case _:
                raise BadFrame(f"the master told {name!r}, which this child does not know")

    def asked(self, name: str, body: Body) -> Body | Awaitable[Body]:
        """Called by the channel: the master wants an answer."""
        match name:
            case "action":
                return self._actions.handle(body)
            case "state":
                return self._apply(body)
            case "stacks":
                return {"text": stacks.of_this_process()}
            case _:
                raise ChildFailed(f"this child has no answer to {name!r}")

    def link_ended(self, reason: str, *, broken: bool) -> None:
        """Called by the channel: the master is gone, or this side closed."""
        self.draining.set()
        if self._closing:
            return
        logs.event("master.gone", logging.WARNING, reason=reason)
        if self._own_process:
            self._alone = asyncio.create_task(self._end_without_master())

    def _take_signals(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the master's: it drains its children
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminated)

    def _terminated(self) -> None:
        if self.draining.is_set():
            self._hurry()  # the drain's deadline has passed, or somebody insists
        self.draining.set()

    def _hurry(self) -> None:
        self.draining.set()
        self.quick.set()

    def _accept(self, snapshot: Body) -> None:
        match snapshot:
            case {
                "boot": dict(boot),
                "careful": int(careful),
                "deaths": dict(deaths),
                "drain": int() | float() as drain,
                "stacks": int(sheet),
            }:
                self.boot, self.careful, self.deaths, self._drain_seconds = boot, careful, deaths, drain
                if self._own_process:
                    stacks.write_on_signal(sheet)
            case _:
                raise BadFrame(f"the master's snapshot holds {sorted(snapshot)} and cannot be understood")

    async def _whole_state(self) -> None:
        complete = asyncio.create_task(self.state.complete.wait())
        ended = asyncio.create_task(self._channel.ended())
        try:
            await asyncio.wait([complete, ended], timeout=STATE_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            complete.cancel()
            ended.cancel()
        if not self.state.complete.is_set():
            raise PeerGone("the master went before it had told the desired state")

    async def _apply(self, body: Body) -> Body:
        errors = await self.state.apply(body)
        return {"errors": errors}

    async def _insist(self, name: str, body: Body | None = None) -> None:
        """Ask until there is an answer. Only for what may be asked twice."""
        while True:
            try:
                await self._channel.ask(name, body, timeout=PATIENCE)
                return
            except (NoAnswer, PeerBusy) as error:
                logs.event("master.silent", logging.WARNING, asked=name, why=str(error))
            await asyncio.sleep(AGAIN)  # one that reads nothing is busy at once

    async def _send(self, to: str, action: str, data: Any, timeout: float, *, reply: bool) -> list[Reply]:
        body = {"to": to, "action": action, "data": data, "timeout": timeout, "reply": reply}
        answer = await self._channel.ask("send", body, timeout=timeout + RELAY_GRACE)
        match answer:
            case {"replies": list(replies)}:
                return [Reply.read(reply) for reply in replies]
        raise BadFrame(f"the master answered a message with {sorted(answer)}")

    async def _beat(self) -> None:
        while True:
            if self._own_process:
                guard()
            if self._met:
                self._say_beat()
            await asyncio.sleep(BEAT)

    def _say_beat(self) -> None:
        try:
            statistics = dict(self.statistics())
        except Exception as error:  # the process's own figures must not cost it its life
            statistics = {"error": repr(error)[:200]}
        beat = {"version": self.version, "paused": self.paused, "statistics": statistics}
        with contextlib.suppress(PeerGone, PeerBusy):
            try:
                self._channel.tell("beat", beat)
            except BadFrame as error:
                self._channel.tell("beat", beat | {"statistics": {"error": str(error)[:200]}})

    async def _end_without_master(self) -> None:
        """Keep the deadlines that the master would have kept."""
        await asyncio.sleep(self._drain_seconds)
        self._hurry()
        await asyncio.sleep(LAST_GRACE)
        logs.event("child.forced", logging.ERROR, reason="the master is gone and this process did not finish")
        os._exit(1)
