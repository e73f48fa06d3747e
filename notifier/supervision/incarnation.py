"""One process in a slot, from its exec to its last frame."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notifier.errors import BadFrame, ChildFailed, NoAnswer, PeerGone
from notifier.supervision import stacks
from notifier.supervision.actions import Sender
from notifier.supervision.channel import Body, Channel
from notifier.supervision.child import PROTOCOL
from notifier.supervision.desired import Desired
from notifier.supervision.feed import Feed
from notifier.supervision.lines import Lines, OnLine
from notifier.supervision.suspects import Suspects
from notifier.supervision.vitals import Vitals

#: Seconds for what a process said just before its end to be read.
LAST_WORDS = 1.0
#: Seconds for a process to tell its stacks, and for one that does not answer to have written them.
STACKS_TIMEOUT = 1.0

#: Who works on what a child asks of the master: gets the sender, the name of the request and its body.
Desk = Callable[[Sender, str, Body], Awaitable[Body]]


@dataclass(frozen=True)
class Program:
    """What runs in a slot.

    argv: the command; `--slot S --epoch N --fd F` are appended. boot: opaque state for the child, JSON values.
    groups: names beside its own that messages for it may be addressed to. rank: a higher one is told to stop only
    when all lower ones are over.
    """

    slot: str
    argv: tuple[str, ...]
    boot: Mapping[str, Any]
    groups: tuple[str, ...] = ()
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Post:
    """What the master has for every child: the desired state, and a desk for what children ask."""

    desired: Desired
    desk: Desk


@dataclass(frozen=True, slots=True)
class Refusal:
    """A child cannot start, and starting it again cannot help."""

    code: int
    message: str


class Incarnation:
    """A process and the pipe to it. Notes what is said and how it ends; the slot decides what follows.

    joined: HELLO was said. started_at, progressed_at, ready_at: the loop's time. lost: why the pipe ended; broken: by
    something that is no message. code: the exit code, once the process is over and all that it said has been read;
    then `over` is set. feed: its way to the desired state. vitals: its heartbeats.
    """

    def __init__(
        self, program: Program, epoch: int, drain: float, suspects: Suspects, post: Post, wake: Callable[[], None]
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
        self.over = asyncio.Event()
        self.vitals = Vitals()
        self.feed = Feed(post.desired, self._ask_state)
        self.sheet = stacks.Sheet()
        self._program = program
        self._snapshot = {"boot": program.boot, "drain": drain, "stacks": self.sheet.fileno(), **suspects.snapshot()}
        self._suspects = suspects
        self._desk = post.desk
        self._wake = wake
        self._lines: Lines | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process
        self._channel: Channel
        self._watch: asyncio.Task[None]

    async def start(self, on_line: OnLine | None) -> None:
        """Exec the program with one end of a new socketpair. Raises OSError if that is not possible."""
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            self.sheet.close()
            raise
        with theirs:  # the child's copy must be the only one, or its end would never be seen
            try:
                self._process = await self._exec(theirs.fileno(), on_line)
            except BaseException:
                ours.close()
                self.sheet.close()
                raise
        self.pid = self._process.pid
        self.started_at = asyncio.get_running_loop().time()
        try:
            self._channel = await Channel.open(ours, self)
        except BaseException:  # cancelled just here: nobody else knows of this process yet
            self.signal(signal.SIGKILL)
            self.sheet.close()
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

    def request(self, action: str, data: Any, sender: Sender) -> asyncio.Future[Body]:
        """Send a message; the future is its answer. Raises PeerGone, PeerBusy, or BadFrame if it is no JSON."""
        said = {"slot": sender.slot, "epoch": sender.epoch}
        return self._channel.request("action", {"action": action, "data": data, "sender": said})

    @property
    def unanswered(self) -> int:
        """Requests that it has not answered yet."""
        return self._channel.unanswered

    @property
    def unread_since(self) -> float | None:
        """Since when it has left its pipe unread, in the loop's time."""
        return self._channel.unread_since

    @property
    def is_stopped(self) -> bool:
        """Somebody has stopped it by a signal, so that it cannot even die by itself."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:  # no such file system, or no such process
            return False
        return stat.rpartition(")")[2].split()[0] in ("T", "t")

    async def stacks(self) -> str:
        """Where its threads and tasks stand, as it tells itself or, if it does not answer, as faulthandler writes it.

        Raises PeerGone if it is over, NoAnswer if it cannot be had.
        """
        if self.vitals.beats == 0:
            raise NoAnswer(f"{self._program.slot} has not said anything yet")
        try:
            answer = await self._channel.ask("stacks", timeout=STACKS_TIMEOUT)
            return str(answer.get("text"))[: stacks.LIMIT]
        except PeerGone:
            raise
        except ChildFailed:
            return await self._written_stacks()

    async def _written_stacks(self) -> str:
        before = size = self.sheet.size
        self.signal(stacks.SIGNAL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STACKS_TIMEOUT):
                while size == before or self.sheet.size != size:  # no event tells that a file has grown
                    size = self.sheet.size
                    await asyncio.sleep(0.05)
        if size == before:
            raise NoAnswer(f"{self._program.slot} neither answers nor writes its stacks; is it stopped?")
        return self.sheet.text(before)

    async def close(self) -> None:
        """End the process by force if it still runs, wait for its end and tidy up."""
        if self.code is None:
            self.signal(signal.SIGKILL)
        await self._watch
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)
        await self._channel.close(flush=0)
        self.sheet.close()

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
                pass_fds=(fd, self.sheet.fileno()),
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
        self.feed.close(f"{self._program.slot} (pid {self.pid}) is gone")
        self.over.set()
        self._wake()

    def noticed(self, name: str, body: Body) -> None:
        """Called by the channel: the child told something."""
        match name, body:
            case _ if not self.joined:
                raise BadFrame(f"its first word was {name!r} instead of a HELLO")
            case "progress", {"sentence": str(sentence)}:
                self.progressed_at, self.sentence = asyncio.get_running_loop().time(), sentence
                self._wake()
            case "beat", _:
                self._beat(body)
            case _:
                raise BadFrame(f"it told {name!r}, which the master does not know")

    def asked(self, name: str, body: Body) -> Body | Awaitable[Body]:
        """Called by the channel: the child wants an answer."""
        match name, body:
            case "hello", _:
                return self._join(body)
            case _ if not self.joined:
                raise BadFrame(f"its first word was {name!r} instead of a HELLO")
            case "ready", _:
                self.ready_at = self.ready_at or asyncio.get_running_loop().time()
                self._wake()
            case "send" | "control", _:
                return self._desk(Sender(self._program.slot, self.epoch), name, body)
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
        self.vitals.joined(asyncio.get_running_loop().time())
        self._feeding = asyncio.create_task(self._keep_fed())  # its first step comes after the answer to HELLO
        self._wake()
        return self._snapshot

    async def _keep_fed(self) -> None:
        try:
            await self.feed.run()
        except BadFrame as error:
            self.link_ended(str(error), broken=True)

    def _beat(self, body: Body) -> None:
        self.vitals.beat(body, asyncio.get_running_loop().time())
        if self.feed.heard(self.vitals.version):
            self._wake()

    async def _ask_state(self, name: str, body: Body | None = None, *, timeout: float) -> Body:
        return await self._channel.ask(name, body, timeout=timeout)
