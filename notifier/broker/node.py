"""A private RabbitMQ node for development and tests, from a server that is installed on this machine.

It has its own directory, ports, epmd, cookie and user, runs as root and as an ordinary user, and touches nothing that
belongs to the machine. It is gone when its owner is, however that ends: a guard sees to it (`guard.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Self

import aio_pika
from aiormq.exceptions import AMQPError
from yarl import URL

from notifier.broker import guard
from notifier.broker.installation import DELAYED_PLUGIN, epmd, has_plugin, installed, plugin_directories
from notifier.broker.node_files import NodeFiles, Ports
from notifier.cancellation import heed_cancellation
from notifier.errors import BrokerError, NoBroker

__all__ = ["PrivateNode", "installed"]

_BUNDLED = "rabbitmq_consistent_hash_exchange"
#: Seconds in which the guard kills everything and removes the directory; it takes well under one.
_END_PATIENCE = 15.0
_CTL_PATIENCE = 60.0
_LOGIN_PATIENCE = 5.0
#: How often other ports are tried when somebody took one of ours between choosing and listening.
_PORT_TRIES = 3


class PrivateNode:
    """One running node. Made by `start`; usable as `async with await PrivateNode.start() as node`.

    url: where it listens, with a user of its own. directory: everything it owns, removed by `stop`.
    offers_delayed: the plugin with the x-delayed-message exchange was found and enabled.
    """

    def __init__(self, scripts: Path, files: NodeFiles, timeout: float) -> None:
        self.url = files.url
        self.directory = files.directory
        self.offers_delayed = DELAYED_PLUGIN in files.plugins
        self._scripts = scripts
        self._files = files
        self._timeout = timeout
        self._environment = files.environment(os.environ)
        self._guard: Process | None = None
        self._pipe: io.FileIO | None = None
        self._listening: asyncio.Task[None] | None = None
        self._booting = asyncio.Event()
        self._dead = asyncio.Event()

    @classmethod
    async def start(
        cls, *, directory: Path | None = None, plugin: bool = True, large_log: bool = False, timeout: float = 60
    ) -> Self:
        """Boot a node and return when it takes connections, after about 5 s on a quiet machine.

        directory: where it lives, new or empty; None takes a new one below the temporary directory. plugin: enable
        the delayed-message plugin if it lies in RABBITMQ_PLUGINS_DIR or in the installation. large_log: see NodeFiles.
        timeout: seconds for a boot. Raises NoBroker if no server is installed, BrokerError with the last log lines if
        it does not boot.
        """
        scripts, mapper = installed(), epmd()
        if scripts is None or mapper is None:
            raise _not_installed()
        places = plugin_directories(scripts, os.environ)
        delayed = (DELAYED_PLUGIN,) if plugin and has_plugin(places, DELAYED_PLUGIN) else ()
        for tries_left in reversed(range(_PORT_TRIES)):
            files = NodeFiles(_directory(directory), Ports.free(), (_BUNDLED, *delayed), places, large_log=large_log)
            node = cls(scripts, files, timeout)
            try:
                await node._start(mapper)
            except BrokerError:
                await node.stop()
                if not (tries_left and files.ports.taken()):
                    raise
            except BaseException:
                await node.stop()
                raise
            else:
                break
        return node

    @property
    def pid(self) -> int:
        """The process id of the Erlang VM, as it wrote it itself. Raises BrokerError when it never booted."""
        try:
            return int(self._files.pid_file.read_text())
        except (OSError, ValueError):
            raise BrokerError("the private RabbitMQ node has no process id: it is not running") from None

    async def stop(self) -> None:
        """End the node at once and remove its directory. Twice is fine."""
        if self._guard is not None:
            ending, self._guard = self._guard, None
            if self._pipe is not None:
                self._pipe.close()
            await _end(ending)
            shutil.rmtree(self.directory, ignore_errors=True)  # in case the guard itself was killed
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def kill(self) -> None:
        """Kill the VM with -9; its data stays, and `restart` boots it again.

        What was confirmed is there again, but for a quorum queue declared within the last second, which RabbitMQ 3.10
        forgets with all that is in it: see `write_queue_names`.
        """
        self._tell("kill")
        await self._dead.wait()

    async def write_queue_names(self) -> None:
        """Write to disk now which quorum queues there are, for tests that declare some and `kill` at once.

        RabbitMQ 3.10 does it by itself when the table (ra's `names.dets`) was left alone for 500 ms.
        """
        await self.ctl("eval", "[ok = dets:sync(Table) || Table <- dets:all()].")

    async def restart(self) -> None:
        """Boot again on the same ports and data. Kills the VM first if it runs. Raises BrokerError."""
        self._booting.clear()
        self._tell("boot")
        await self._booted()

    async def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` prints for this node. Takes a second of CPU. Raises BrokerError with what it complains."""
        process = await asyncio.create_subprocess_exec(
            str(self._scripts / "rabbitmqctl"),
            *arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_CTL_PATIENCE):
                printed, complained = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            said = (complained or printed).decode(errors="replace").strip()
            raise BrokerError(f"rabbitmqctl {' '.join(arguments)} failed ({process.returncode}): {said}")
        return printed.decode(errors="replace")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self, mapper: str) -> None:
        # not asyncio's stdin: a guard that was killed would leave it with an error that nobody asks for
        reading, writing = os.pipe()
        self._pipe = io.FileIO(writing, "w")
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            guard.__file__,
            str(self.directory),
            mapper,
            str(self._scripts / "rabbitmq-server"),
            stdin=reading,
            stdout=PIPE,
            env=self._environment,
            start_new_session=True,
        )
        os.close(reading)
        assert self._guard.stdout is not None
        if await self._guard.stdout.readline() != b"guarding\n":
            raise BrokerError("the guard of the private RabbitMQ node did not start; its traceback is above")
        self._files.write()  # only now: the guard removes it, whatever happens to us
        self._listening = asyncio.create_task(self._listen(self._guard.stdout), name="private node")
        await self.restart()

    async def _booted(self) -> None:
        """Wait until the node takes connections."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._booting.wait()
                while not await self._answers():
                    if self._dead.is_set():
                        raise self._ended()
                    heed_cancellation()  # what looks for an answer may have lost the one by which the time ends
                    await asyncio.sleep(0.05)
                heed_cancellation()
        except TimeoutError:
            raise BrokerError(
                f"the private RabbitMQ node did not boot in {self._timeout:.0f} s:\n{self._files.complaint()}"
            ) from None

    def _ended(self) -> BrokerError:
        if self._listening is not None and self._listening.done():
            return BrokerError("the private RabbitMQ node is gone: somebody killed its guard; start a new one")
        return BrokerError(f"the private RabbitMQ node ended while it booted:\n{self._files.complaint()}")

    async def _answers(self) -> bool:
        """Whether the node's own user can log in: RabbitMQ listens as the last step of its boot, so all of it is up.

        A connection alone would not do: somebody else may have taken the port.
        """
        connection = aio_pika.Connection(URL(self.url))
        try:
            async with asyncio.timeout(_LOGIN_PATIENCE):
                await connection.connect()
        except (AMQPError, OSError, TimeoutError):
            return False
        finally:
            await connection.close()  # also after a failure: else aio-pika complains when the object is collected
        return True

    def _tell(self, command: str) -> None:
        if self._guard is None or self._pipe is None:
            raise BrokerError("the private RabbitMQ node was stopped; start a new one")
        with contextlib.suppress(BrokenPipeError):  # then the guard is gone, and `_listen` hears that the VM is, too
            self._pipe.write(f"{command}\n".encode())

    async def _listen(self, told: asyncio.StreamReader) -> None:
        """Keep up with what the guard tells of the VM."""
        async for line in told:
            match line.split():
                case [b"booting", _]:
                    self._dead.clear()
                    self._booting.set()
                case [b"exited", *_]:
                    self._dead.set()
        self._dead.set()
        self._booting.set()


async def _end(ending: Process) -> None:
    try:
        async with asyncio.timeout(_END_PATIENCE):
            await ending.wait()
    except TimeoutError:
        ending.kill()
        await ending.wait()


def _directory(wanted: Path | None) -> Path:
    """Where a node shall live. Nothing is made there before the guard that removes it is up."""
    if wanted is None:
        return Path(tempfile.gettempdir()).resolve() / f"notifier-rabbitmq-{secrets.token_hex(6)}"
    directory = wanted.absolute()
    if directory.exists() and any(directory.iterdir()):
        raise BrokerError(f"a private RabbitMQ node needs a directory of its own, and {directory} is not empty")
    return directory


def _not_installed() -> NoBroker:
    return NoBroker(
        "There is no RabbitMQ on this machine to start a private node from. There are two ways on:\n"
        "  yours:      export NOTIFIER_AMQP_URL=amqp://user:password@host:5672/\n"
        "  installed:  make setup   (takes the distribution's package rabbitmq-server and leaves its service off)"
    )
