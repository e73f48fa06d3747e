"""`notifier` commands without their start: a process that has imported every command forks for each of them.

To import its libraries takes a command ten times the CPU of what it then does. What runs here is the command all the
same, in a process of its own with its own environment, standard streams and exit code. That the installed script
imports what it needs, and nothing more, is shown where it is called itself (test_cli_pure, test_first_use and others).

Run as `python -m tests.acceptance.forking FD`; it ends when the other end of that socket is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

#: Imported late by the commands themselves.
_LATE = ("notifier.ledger.migrating", "notifier.ledger.database", "notifier.cli.ledger_line", "rich.console", "aiohttp")


class Forks:
    """The process that forks, from the side of the tests."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        atexit.register(self.end)

    def end(self) -> None:
        """Twice is fine."""
        self._line.close()
        self._process.wait()

    async def call(
        self, variables: Mapping[str, str], arguments: tuple[str, ...], given: bytes, directory: Path | None
    ) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of one command; killed when cancelled. directory: None is this process's own."""
        ours, theirs = socket.socketpair()
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        read_err, write_err = os.pipe()
        socket.send_fds(self._line, [b"?"], [theirs.fileno(), read_in, write_out, write_err])
        for descriptor in (theirs.detach(), read_in, write_out, write_err):
            os.close(descriptor)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            writer.write(json.dumps([arguments, dict(variables), str(directory or Path.cwd())]).encode() + b"\n")
            pid = int(await reader.readline())
            try:
                _, out, err = await asyncio.gather(_feed(write_in, given), _drained(read_out), _drained(read_err))
                return int(await reader.readline()), out.decode(), err.decode()
            except asyncio.CancelledError:
                os.kill(pid, signal.SIGKILL)
                raise
        finally:
            writer.close()


async def _feed(descriptor: int, given: bytes) -> None:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "wb", buffering=0)
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop=loop), pipe)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        writer.write(given)
        await writer.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it did not want to know
    finally:
        transport.close()


async def _drained(descriptor: int) -> bytes:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        return await reader.read()
    finally:
        transport.close()


def _serve(line: socket.socket) -> None:
    """Fork for each call, until nobody is left to call."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for the commands need not be waited for
    while True:
        message, descriptors, _, _ = socket.recv_fds(line, 1, 4)
        if not message:
            return
        if not os.fork():
            os.close(line.fileno())
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.detach()
            _attend(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(answer: int, *streams: int) -> None:
    """Run one command in a process of its own and tell its process id, then its exit code."""
    asked = b""
    while not asked.endswith(b"\n"):
        asked += os.read(answer, 65536)
    if not (pid := os.fork()):
        os.close(answer)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _become(*json.loads(asked))
    for descriptor in streams:
        os.close(descriptor)
    os.write(answer, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(answer, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(arguments: list[str], variables: dict[str, str], directory: str) -> None:
    from notifier.cli import main

    os.environ.clear()
    os.environ.update(variables)
    os.chdir(directory)
    sys.argv = ["notifier", *arguments]
    # made anew, since those of the parent know what its streams can do
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    main()  # leaves by SystemExit, as the installed script does


def _import_everything() -> None:
    from notifier.cli import COMMANDS

    gc.disable()
    for module in (*(entry.target.partition(":")[0] for entry in COMMANDS), *_LATE):
        import_module(module)
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    _import_everything()
    with socket.socket(fileno=int(sys.argv[1])) as calls:
        _serve(calls)
