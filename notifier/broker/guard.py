"""The guard of a private RabbitMQ node: a process of its own that starts the node and outlives nobody.

It is the parent of the Erlang VM and of epmd, lives in a session of its own, where no Ctrl-C of a terminal arrives, and
reads commands from a pipe whose other end only the owner holds. However the owner ends, kill -9 included, the pipe
ends, and then everything is killed and the node's directory removed. There is no moment at which a process of the
node exists and is not watched: the guard is there before the first one is started.

Run by path and without site-packages, so that it is up in 20 ms; hence the standard library only, nothing of notifier.

    guard.py DIRECTORY EPMD SERVER        (the environment is the node's)

Commands, a line each: `boot` (kills the VM first if it runs), `kill`. Told on stdout, a line each: `guarding`,
`booting PID`, `exited PID CODE`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

#: A huge limit makes Erlang allocate gigabytes (FACTS §6); this one is enough for thousands of connections and queues.
_OPEN_FILES = 8192
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_PATIENCE = 10.0


class Guard:
    """directory: everything the node owns, removed at the end. epmd, server: programs to start."""

    def __init__(self, directory: Path, epmd: str, server: str) -> None:
        self._directory = directory
        self._commands = {"boot": self._boot, "kill": self._kill}
        self._epmd_program, self._server_program = epmd, server
        self._epmd: subprocess.Popen[bytes] | None = None
        self._vm: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def run(self) -> None:
        """Obey until the pipe ends or a signal says so, then leave nothing behind."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the VM leaves behind when it dies becomes ours, to be killed
        _limit_open_files()
        woken = _wake_on_signals()
        _tell("guarding")
        try:
            while self._obey(woken):
                self._notice_exit()
        finally:
            self._end()

    def _obey(self, woken: socket.socket) -> bool:
        """Wait for something to happen and do what is asked. False: it is time to go."""
        ready, _, _ = select.select([0, woken.fileno()], [], [])
        if woken.fileno() in ready and signal.SIGTERM in woken.recv(64):
            return False
        if 0 in ready:
            read = os.read(0, 4096)
            if not read:
                return False
            *lines, self._unread = (self._unread + read).split(b"\n")
            for line in lines:
                self._commands[line.decode()]()
        return True

    def _boot(self) -> None:
        self._kill()
        if self._epmd is None or self._epmd.poll() is not None:
            self._epmd = self._start(self._epmd_program, "-port", os.environ["ERL_EPMD_PORT"], "-address", "127.0.0.1")
            _await_listener(int(os.environ["ERL_EPMD_PORT"]), self._epmd)
        self._vm = self._start(self._server_program)
        _tell(f"booting {self._vm.pid}")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self._directory / "log" / "console", "ab") as console:
            return subprocess.Popen(
                command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                # should the guard itself be killed, the kernel takes the VM and epmd along; there is one thread, so
                # code between fork and exec is safe
                preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )

    def _kill(self) -> None:
        if self._vm is not None:
            _kill(set(_descendants()) - {self._epmd.pid if self._epmd else 0} | {self._vm.pid})
            self._vm.wait()
            self._notice_exit()

    def _notice_exit(self) -> None:
        if self._vm is not None and (code := self._vm.poll()) is not None:
            _tell(f"exited {self._vm.pid} {code}")
            self._vm = None

    def _end(self) -> None:
        self._kill()
        deadline = time.monotonic() + _PATIENCE
        while _children_left() and time.monotonic() < deadline:
            _kill(_descendants())
            time.sleep(0.01)
        shutil.rmtree(self._directory, ignore_errors=True)


def _tell(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the owner died a moment ago; the end of the pipe says so next
        os.write(1, f"{line}\n".encode())


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":  # elsewhere the exit of the VM ends its children, only a moment later
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _limit_open_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _wake_on_signals() -> socket.socket:
    """The signals that matter, as bytes to read; those of a terminal are for the owner alone."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach())
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    return reading


def _await_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens. If nobody does, the VM fails to boot and its log says why."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants() -> list[int]:
    """Processes below this one. The VM's helpers put themselves into groups of their own, so groups do not do."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    below = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= grown
    return sorted(below - {os.getpid()})


def _children_left() -> bool:
    """Whether there is still a child after those that ended are reaped; every orphan below us has become one."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


if __name__ == "__main__":
    Guard(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).run()
