"""What stands around the service in some faults, besides broker, load and merchants: each as a context manager.

A fault names one of these in `Fault.around`; it gives the service its settings, and the fault what it strikes with.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import files
from tests.faults.errors import DidNotBite
from tests.faults.receiver import Receiver
from tests.faults.simulated import Simulated, simulated
from tests.postgres import PrivatePostgres

_WORLD = Path(__file__).with_name("world")
_PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Around:
    """settings: further variables of the service's environment. The rest is there where an `around` made it."""

    settings: Mapping[str, str] = field(default_factory=dict)
    world: World | None = None
    simulated: Simulated | None = None
    database: PrivatePostgres | None = None
    small: Small | None = None


#: The merchants' log is given to it, for what else writes one.
Surrounding = Callable[[Receiver], AbstractAsyncContextManager[Around]]


class World:
    """Clocks and names as the processes of the service see them; `world/sitecustomize.py` reads what is written."""

    def __init__(self, place: Path) -> None:
        self._place = place

    @property
    def settings(self) -> Mapping[str, str]:
        """What makes a process live in it."""
        return {"FAULTS_WORLD": str(self._place), "PYTHONPATH": f"{_WORLD}{os.pathsep}{_PROJECT}"}

    def name(self, **fates: str) -> None:
        """From now on these names, to which `.test` is added, have an address, or `fail`, `hang` or `kill`."""
        files.put(self._place / "names", json.dumps({f"{name}.test": fate for name, fate in fates.items()}))

    def asked(self, name: str) -> int:
        """How often somebody looked up this name, to which `.test` is added."""
        asked = self._place / "asked"
        return asked.read_text().splitlines().count(f"{name}.test") if asked.exists() else 0

    def set_clock(self, pid: int, ahead: float) -> None:
        """Set a process's wall clock wrong by so many seconds; 0 sets it right."""
        clock = self._place / f"clock.{pid}"
        if ahead:
            files.put(clock, str(ahead))
        else:
            clock.unlink(missing_ok=True)
            clock.with_name(f"{clock.name}.seen").unlink(missing_ok=True)

    async def looked_at(self, pid: int, timeout: float = 10) -> None:
        """Wait until that process has looked at its wrong clock. Raises DidNotBite."""
        try:
            async with asyncio.timeout(timeout):
                while not (self._place / f"clock.{pid}.seen").exists():  # noqa: ASYNC110  a file tells nobody
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DidNotBite(f"process {pid} never looked at its clock") from None


class Small:
    """A directory on a file system of its own, which can be filled to the last byte."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """No byte is left. Raises DidNotBite when it takes more than it should have."""
        most = 2 * os.statvfs(self.place).f_blocks * os.statvfs(self.place).f_frsize
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (65_536, 4096, 1):
                try:
                    while ballast.tell() < most:
                        ballast.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                else:
                    raise DidNotBite(f"{self.place} is never full")

    def free(self) -> None:
        """There is room again."""
        self._ballast.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def in_a_world(receiver: Receiver) -> AsyncIterator[Around]:
    """With clocks and names of the test's own; and an extension that blocks its event loop when it is told to."""
    with tempfile.TemporaryDirectory(prefix="notifier-faults-") as directory:
        world = World(Path(directory))
        yield Around({**world.settings, "NOTIFIER_EXTENSIONS": "faults_blocking"}, world=world)


@contextlib.asynccontextmanager
async def on_postgresql(receiver: Receiver) -> AsyncIterator[Around]:
    """The ledger is in a PostgreSQL of its own."""
    async with PrivatePostgres() as database:
        yield Around({"NOTIFIER_DATABASE_URL": await database.new_database()}, database=database)


def on_a_small_disk(setting: str, megabytes: int) -> Surrounding:
    """The directory of this setting is a small file system. Needs root: such a thing is mounted."""

    @contextlib.asynccontextmanager
    async def around(receiver: Receiver) -> AsyncIterator[Around]:
        directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="notifier-small-")
        await _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", directory)
        try:
            yield Around({setting: directory}, small=Small(Path(directory)))
        finally:
            await _run("umount", "--lazy", directory)
            await asyncio.to_thread(os.rmdir, directory)

    return around


def with_scripts(scripts: Mapping[str, str]) -> Surrounding:
    """`notifier simulate` stands beside the merchants, with a script for each path."""

    @contextlib.asynccontextmanager
    async def around(receiver: Receiver) -> AsyncIterator[Around]:
        async with simulated(receiver, scripts) as merchants:
            yield Around(simulated=merchants)

    return around


@contextlib.contextmanager
def limited(pid: int, limit: int, most: int) -> Iterator[None]:
    """A process may have no more than that of a resource, for the length of the block. limit: `resource.RLIMIT_…`."""
    soft, hard = resource.prlimit(pid, limit)
    resource.prlimit(pid, limit, (most, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it died of it
            resource.prlimit(pid, limit, (soft, hard))


async def _run(*command: str) -> None:
    running = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await running.communicate()
    if running.returncode != 0:
        raise DidNotBite(f"{command[0]} did not work: {said.decode().strip()}")
