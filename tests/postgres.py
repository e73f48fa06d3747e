"""A PostgreSQL server for tests alone: own directory, free port of 127.0.0.1, and always stopped at the end.

It runs as the user `postgres` where the tests run as root, which the server refuses. It does not sync, so it is quick:
what is committed survives kill -9 all the same, and what survives a power failure is not tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from notifier.broker.node_files import Ports
from notifier.ledger.migrating import head
from notifier.ledger.schema import metadata

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
}


async def emptied(url: str) -> bool:
    """Whether a ledger is as after its migration again: quicker than another copy. Not so if its tables are others now,
    or of another version, or somebody still works in it.
    """
    wanted = set(metadata.tables)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET lock_timeout = '1s'")
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        standing = {table[0] for table in tables}
        if not wanted < standing or await connection.fetchval("SELECT version_num FROM ledger_revision") != head():
            return False
        await connection.execute(f"TRUNCATE {', '.join(sorted(wanted))} RESTART IDENTITY")
    except asyncpg.LockNotAvailableError:
        return False
    finally:
        await connection.close()
    return True


def programs() -> Path | None:
    """The directory with the newest installed server's programs; None if there is none."""
    found = [place for pattern in PLACES for place in Path("/").glob(pattern[1:]) if (place / "initdb").exists()]
    if found:
        return max(found, key=lambda place: [int(part) for part in place.parent.name.split("-")[-1].split(".")])
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class PrivatePostgres:
    """One server. `kill` and `start` again as a test likes; the data stays. As a context manager it is removed at the
    end.
    """

    def __init__(self) -> None:
        self.port = Ports.free().amqp  # none that is given to whoever asks for any
        self._place = Path(tempfile.mkdtemp(prefix="notifier-postgres-"))
        self._password = secrets.token_hex(8)
        self._process: asyncio.subprocess.Process | None = None
        self._said: deque[str] = deque(maxlen=50)
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._make)
            await self.start()
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._remove()

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases, as in the settings."""
        return f"postgresql://notifier:{self._password}@127.0.0.1:{self.port}/{database}"

    async def new_database(self, template: str = "template0") -> str:
        """The address of a fresh database: empty, or a copy of one that nobody is connected to."""
        name = f"test_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()
        return self.url(name)

    async def start(self) -> None:
        """Start it, and return when it takes connections. Raises AssertionError with what it said if it ends."""
        settings = [f"--{name}={value}" for name, value in (_QUICK | {"port": str(self.port)}).items()]
        self._process = await asyncio.create_subprocess_exec(
            *_as_its_user(), str(_found() / "postgres"), "-D", str(self._place / "kept"), *settings,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self._place,
        )  # fmt: skip
        assert self._process.stderr is not None
        async with asyncio.timeout(60):
            await self._hear_until_ready(self._process.stderr)
        self._listening = asyncio.create_task(self._hear(self._process.stderr))

    async def stop(self) -> None:
        """An orderly stop that ends what goes on. Twice is fine."""
        await self._end(signal.SIGINT)

    async def kill(self) -> None:
        """kill -9 of the server; its own processes notice and end. Returns when the port is closed."""
        await self._end(signal.SIGKILL)
        async with asyncio.timeout(20):
            while _lock_of(self._place):  # noqa: ASYNC110  # nothing tells when the last of them is gone
                await asyncio.sleep(0.02)

    def freeze(self) -> None:
        """Let it stop answering, with its connections open (the server alone, not the processes that serve already)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        async with asyncio.timeout(30):
            await process.wait()
        if self._listening is not None:
            await self._listening

    async def _remove(self) -> None:
        try:
            await self.stop()
        finally:
            await asyncio.to_thread(shutil.rmtree, self._place)

    def _make(self) -> None:
        password = self._place / "password"
        password.write_text(self._password)
        if (user := _user()) is not None:
            for path in (self._place, password):
                os.chown(path, user.pw_uid, user.pw_gid)
        made = subprocess.run(
            [*_as_its_user(), str(_found() / "initdb"), "-D", str(self._place / "kept"), "--username=notifier",
             "--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
            capture_output=True, text=True, cwd=self._place, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr

    async def _hear_until_ready(self, stderr: asyncio.StreamReader) -> None:
        while line := (await stderr.readline()).decode(errors="replace"):
            self._said.append(line)
            if "ready to accept connections" in line:
                return
        raise AssertionError("PostgreSQL did not start:\n" + "".join(self._said))

    async def _hear(self, stderr: asyncio.StreamReader) -> None:
        while line := await stderr.readline():
            self._said.append(line.decode(errors="replace"))


def _found() -> Path:
    place = programs()
    assert place is not None, "no PostgreSQL to test against: install one with `make test`; a missing one never skips"
    return place


def _user() -> pwd.struct_passwd | None:
    """Whose the server is, where it is not ours."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _as_its_user() -> list[str]:
    """What stands before a command so that it runs as its user, and ends with these tests, even by kill -9."""
    words = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if _user() is not None else []
    if shutil.which("setpriv"):
        return ["setpriv", *words, "--pdeathsig=INT", "--"]
    return ["runuser", "-u", "postgres", "--"] if words else []


def _lock_of(place: Path) -> bool:
    """Whether any of its processes is alive still: they stand in its directory."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(directory / "cwd")) == place / "kept":
                return True
    return False
