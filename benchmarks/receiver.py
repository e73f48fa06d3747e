"""The receiver that counts: an nginx of our own on a free port of 127.0.0.1, whose access log is the measurement."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from benchmarks import children
from benchmarks.children import Child
from benchmarks.errors import BenchmarkFailed, NoReceiver
from benchmarks.figures import Arrival

#: Seconds between two looks at the log. The moments stand in the log, so this grain is in no figure.
_LOOK = 0.005
#: Seconds without any arrival after which what is missing is lost.
_PATIENCE = 30.0
_START_PATIENCE = 5.0
_PORT_TRIES = 3

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    log_format arrival '$msec $http_webhook_id $http_notifier_attempt';
    access_log {directory}/arrivals.log arrival;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200; }}
    }}
}}
"""


class Receiver:
    """A running receiver. url: where to post. version: of nginx. arrivals: all so far, in the order of the log."""

    def __init__(self, nginx: Child, port: int, log: Path, version: str) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.pid = nginx.pid
        self.version = version
        self.arrivals: list[Arrival] = []
        self._nginx = nginx
        self._log = log.open("rb")
        self._rest = b""

    async def until(self, total: int, check: Callable[[], None]) -> None:
        """Return when there are `total` arrivals in all. check: called meanwhile; raises what makes waiting futile.

        Raises BenchmarkFailed after 30 s without any.
        """
        before, deadline = len(self.arrivals), time.monotonic() + _PATIENCE
        while self.look() < total:
            if len(self.arrivals) > before:
                before, deadline = len(self.arrivals), time.monotonic() + _PATIENCE
            elif time.monotonic() > deadline:
                missing = total - len(self.arrivals)
                raise BenchmarkFailed(f"nothing arrived for {_PATIENCE:.0f} s, and {missing:,} are missing")
            check()
            self._nginx.require_alive()
            await asyncio.sleep(_LOOK)

    def look(self) -> int:
        """Read what is new in the log; returns how many arrived in all."""
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        self.arrivals += [Arrival.parse(line.decode()) for line in lines]
        return len(self.arrivals)

    def close(self) -> None:
        """Read no more. Twice is fine."""
        self._log.close()


@contextlib.asynccontextmanager
async def open_receiver(directory: Path) -> AsyncIterator[Receiver]:
    """A receiver until the end of the block. directory: everything it writes is there. Raises NoReceiver."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    if program is None:
        raise NoReceiver(
            "nginx is not installed; it counts what arrives. `make bench` installs the distribution's package "
            "without starting its service"
        )
    nginx, port = await _started(program, directory)
    try:
        receiver = Receiver(nginx, port, directory / "arrivals.log", await _version(program))
        try:
            yield receiver
        finally:
            receiver.close()
    finally:
        await nginx.stop()


async def _started(program: str, directory: Path) -> tuple[Child, int]:
    for _ in range(_PORT_TRIES):  # somebody may take the port between choosing and listening
        port = _free_port()
        configuration = directory / "nginx.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory, port=port))
        command = [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(configuration)]
        nginx = await children.start("nginx", command, directory, children.environment({}))
        try:
            if await _listens(nginx, port):
                return nginx, port
        except BaseException:
            await nginx.stop()
            raise
    raise NoReceiver(f"nginx does not start: {(directory / 'error.log').read_text().strip()}")


async def _listens(nginx: Child, port: int) -> bool:
    """Whether it came to listen; it tells nobody when it does, so it is asked every 10 ms."""
    deadline = time.monotonic() + _START_PATIENCE
    while nginx.process.returncode is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return True
        await asyncio.sleep(0.01)
    await nginx.stop()
    return False


async def _version(program: str) -> str:
    """It speaks on stderr: `nginx version: nginx/1.22.1`."""
    asked = await asyncio.create_subprocess_exec(program, "-v", stderr=PIPE)
    _, said = await asked.communicate()
    return said.decode().partition(":")[2].strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
