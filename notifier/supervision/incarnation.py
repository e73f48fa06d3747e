"""One process in a slot, from its exec to its last frame."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notifier.errors import BadFrame, ChildFailed
from notifier.supervision.channel import Body, Channel
from notifier.supervision.child import PROTOCOL
from notifier.supervision.lines import Lines, OnLine
from notifier.supervision.suspects import Suspects

#: Seconds for what a process said just before its end to be read.
LAST_WORDS = 1.0


@dataclass(frozen=True)
class Program:
    """What runs in a slot.

    argv: the command; `--slot S --epoch N --fd F` are appended. boot: opaque state for the child, JSON values.
    """

    slot: str
    argv: tuple[str, ...]
    boot: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A child cannot start, and starting it again cannot help."""

    code: int
    message: str


class Incarnation:
    """A process and the pipe to it. Notes what is said and how it ends; the slot decides what follows.

    joined: HELLO was said. started_at, progressed_at, ready_at: the loop's time. lost: why the pipe ended; broken: by
    something that is no message. code: the exit code, once the process is over and all that it said has been read.
    """

    def __init__(
        self, program: Program, epoch: int, drain: float, suspects: Suspects, wake: Callable[[], None]
    ) -> None:
        self.epoch = epoch
        self.pid = 0
        self.started_at = 0.0
        self.joined = False
        self.ready_at: float | None = None
        self.progressed_at = 0.0
        self.sentence = ""
        self.refusal: Refusal | None = None
        self.lost: str | None = None
        self.broken = False
        self.code: int | None = None
        self._program = program
        self._snapshot = {"boot": program.boot, "drain": drain, **suspects.snapshot()}
        self._suspects = suspects
        self._wake = wake
        self._lines: Lines | None = None
        self._process: asyncio.subprocess.Process
        self._channel: Channel
        self._watch: asyncio.Task[None]

    async def start(self, on_line: OnLine | None) -> None:
        """Exec the program with one end of a new socketpair. Raises OSError if that is not possible."""
        ours, theirs = socket.socketpair()
        with theirs:  # the child's copy must be the only one, or its end would never be seen
            try:
                self._process = await self._exec(theirs.fileno(), on_line)
            except BaseException:
                ours.close()
                raise
        self.pid = self._process.pid
        self.started_at = asyncio.get_running_loop().time()
        try:
            self._channel = await Channel.open(ours, self)
        except BaseException:  # cancelled just here: nobody else knows of this process yet
            self.signal(signal.SIGKILL)
            raise
        self._watch = asyncio.create_task(self._until_over())

    def tell(self, name: str) -> None:
        """Send a notice. One that cannot be sent is dropped: deadlines and signals do the rest."""
        with contextlib.suppress(ChildFailed):
            self._channel.tell(name)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still is one."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def close(self) -> None:
        """End the process by force if it still runs, wait for its end and tidy up."""
        if self.code is None:
            self.signal(signal.SIGKILL)
        await self._watch
        await self._channel.close(flush=0)

    async def _exec(self, fd: int, on_line: OnLine | None) -> asyncio.subprocess.Process:
        argv = (*self._program.argv, "--slot", self._program.slot, "--epoch", str(self.epoch), "--fd", str(fd))
        output: int | None = None
        if on_line is not None:
            self._lines = Lines(self._program.slot, on_line)
            output = await self._lines.open()
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(fd,),
                start_new_session=True,  # the terminal's Ctrl-C goes to the master alone
            )
        finally:
            if output is not None:
                os.close(output)

    async def _until_over(self) -> None:
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._channel.ended()
        if self._lines is not None:
            await self._lines.close(LAST_WORDS)
        self.code = code
        self._wake()

    def noticed(self, name: str, body: Body) -> None:
        """Called by the channel: the child told something."""
        match name, body:
            case _ if not self.joined:
                raise BadFrame(f"its first word was {name!r} instead of a HELLO")
            case "progress", {"sentence": str(sentence)}:
                self.progressed_at, self.sentence = asyncio.get_running_loop().time(), sentence
            case _:
                raise BadFrame(f"it told {name!r}, which the master does not know")
        self._wake()

    def asked(self, name: str, body: Body) -> Body:
        """Called by the channel: the child wants an answer."""
        match name, body:
            case "hello", _:
                return self._join(body)
            case _ if not self.joined:
                raise BadFrame(f"its first word was {name!r} instead of a HELLO")
            case "ready", _:
                self.ready_at = self.ready_at or asyncio.get_running_loop().time()
                self._wake()
            case "claim", {"keys": list(keys)} if all(isinstance(key, str) for key in keys):
                self._suspects.claim(keys)
            case "calm", _:
                self._suspects.calm()
            case "refuse", {"code": int(code), "message": str(message)}:
                self.refusal = Refusal(code, message)
                self._wake()
            case _:
                raise BadFrame(f"it asked {name!r}, which the master does not know")
        return {}

    def link_ended(self, reason: str, *, broken: bool) -> None:
        """Called by the channel: the pipe is over."""
        self.lost, self.broken = reason, broken
        self._wake()

    def _join(self, hello: Body) -> Body:
        expected = {"protocol": PROTOCOL, "slot": self._program.slot, "epoch": self.epoch, "pid": self.pid}
        if self.joined or dict(hello) != expected:
            raise BadFrame(f"its HELLO was {dict(hello)} instead of {expected}")
        self.joined = True
        self._wake()
        return self._snapshot
