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
from collections.abc import Mapping, Sequence
from typing import Any

from notifier import logs
from notifier.errors import BadFrame, ChildFailed
from notifier.supervision.channel import Body, Channel
from notifier.supervision.suspects import KEY_LIMIT

#: Spoken by both ends; a HELLO with another one is refused.
PROTOCOL = 1
#: Seconds the event loop may be stuck before the process prints its stacks and ends itself.
STUCK = 30.0
#: Seconds the master may take for an answer before the child treats it as gone.
PATIENCE = 10.0
#: Seconds between `quick` and the end by force, for a child whose master is gone.
LAST_GRACE = 5.0


def guard() -> None:
    """End this process with a dump of its stacks unless this is called again within `STUCK` seconds.

    A thread without the interpreter lock does it, so it works even while a C call holds that lock. Call it first
    in a child, before slow imports; from `join` on the event loop calls it each second.
    """
    faulthandler.dump_traceback_later(STUCK, exit=True)


class Parent:
    """The child's view of the master. Made by `join`.

    boot: what the composition gave this slot. careful: 0 if the last incarnation ended cleanly, 1 if it died, 2 if it
    died while careful with not exactly one key claimed. deaths: how often each key was alone claimed at a death.
    draining: set when this process shall finish, also by SIGTERM and when the master is gone. quick: set when it shall
    leave at once what is unfinished; then draining is set, too.
    """

    boot: Mapping[str, Any]
    careful: int
    deaths: Mapping[str, int]

    def __init__(self, *, own_process: bool) -> None:
        self.draining = asyncio.Event()
        self.quick = asyncio.Event()
        self._own_process = own_process
        self._drain_seconds = 0.0
        self._closing = False
        self._channel: Channel
        self._alone: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, fd: int, slot: str, epoch: int, *, own_process: bool = True) -> Parent:
        """Say HELLO over the inherited `fd` and wait for the snapshot.

        own_process False leaves signals and the guard alone: for tests that play a child inside their own process.
        Raises ChildFailed (PeerGone, NoAnswer, RequestFailed) if the master is gone, stops or refuses the HELLO.
        """
        parent = cls(own_process=own_process)
        if own_process:
            parent._take_signals()
            parent._heartbeat = asyncio.create_task(_beat())
        pipe = socket.socket(fileno=fd)
        pipe.set_inheritable(False)  # a program started by this process must not keep the pipe open
        parent._channel = await Channel.open(pipe, parent)
        hello = {"protocol": PROTOCOL, "slot": slot, "epoch": epoch, "pid": os.getpid()}
        try:
            parent._accept(await parent._channel.ask("hello", hello, timeout=PATIENCE))
        except ChildFailed:
            await parent.close()
            raise
        return parent

    async def ready(self) -> None:
        """This process does its work now. Returns when the master has it; if that is gone, draining says so."""
        with contextlib.suppress(ChildFailed):
            await self._channel.ask("ready", timeout=PATIENCE)

    async def progress(self, sentence: str) -> None:
        """Starting takes longer, for a reason a person can read; gives this process more time to become ready."""
        with contextlib.suppress(ChildFailed):
            self._channel.tell("progress", {"sentence": sentence})

    async def claim(self, keys: Sequence[str]) -> None:
        """This process works on `keys` now and on nothing else; replaces the previous claim.

        Returns when the master has it, so that the claim outlives this process: claim first, work then. Keys are
        opaque, of at most 256 characters (else ValueError). Raises PeerGone or NoAnswer if the master is gone: then
        do not start the work.
        """
        if any(len(key) > KEY_LIMIT for key in keys):
            raise ValueError(f"a claimed key has at most {KEY_LIMIT} characters")
        await self._channel.ask("claim", {"keys": list(keys)}, timeout=PATIENCE)

    async def calm(self) -> None:
        """What was suspect is behind this process: it no longer claims what it works on. Raises like `claim`."""
        await self._channel.ask("calm", timeout=PATIENCE)

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

    def asked(self, name: str, body: Body) -> Body:
        """Called by the channel: the master wants an answer."""
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
            }:
                self.boot, self.careful, self.deaths, self._drain_seconds = boot, careful, deaths, drain
            case _:
                raise BadFrame(f"the master's snapshot holds {sorted(snapshot)} and cannot be understood")

    async def _end_without_master(self) -> None:
        """Keep the deadlines that the master would have kept."""
        await asyncio.sleep(self._drain_seconds)
        self._hurry()
        await asyncio.sleep(LAST_GRACE)
        logs.event("child.forced", logging.ERROR, reason="the master is gone and this process did not finish")
        os._exit(1)


async def _beat() -> None:
    while True:
        guard()
        await asyncio.sleep(1)
