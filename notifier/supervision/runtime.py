"""The runtime directory: one master at a time, and what it keeps there over its own death."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notifier.errors import AlreadyRunning, BadRuntimeDirectory
from notifier.supervision.desired import Desired, Entry
from notifier.supervision.slot import Tell

SOCKET = "control.sock"
STATE = "state.json"
LOCK = "master.lock"
#: Version of the state file; another one is kept aside.
FORMAT = 1


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Be the one master of this directory, which is made if it is missing.

    Raises AlreadyRunning if another one is alive, BadRuntimeDirectory if the directory cannot be trusted or used.
    """
    _prepare(directory)
    try:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BadRuntimeDirectory(f"the runtime directory {directory} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however it ends
        except BlockingIOError:
            pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunning(
                f"another master (pid {pid}) is running in {directory}. Stop it first, or give this one a runtime "
                "directory of its own"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def _prepare(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise BadRuntimeDirectory(f"the runtime directory {directory} cannot be made: {error.strerror}") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise BadRuntimeDirectory(
            f"the runtime directory {directory} must belong to the user who runs the service, and nobody else may "
            f"write to it (it belongs to uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}); "
            f"remedy: chmod 700 {directory}"
        )


class Kept:
    """The desired state in a file, replaced as a whole, so that it is always either the old or the new one.

    Not flushed to the disk: it is meant to outlive the master, not the machine.
    """

    def __init__(self, directory: Path | None, desired: Desired, tell: Tell) -> None:
        """directory None: nothing is kept."""
        self._path = None if directory is None else directory / STATE
        self._desired = desired
        self._tell = tell
        self._version = 0
        self._writing: asyncio.Task[bool] | None = None
        self.saved = True

    def restore(self) -> None:
        """Begin with what is in the file. One that cannot be read is kept aside, and the state starts empty."""
        if self._path is None:
            return
        try:
            entries, version = _read(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            aside = self._path.with_name(f"{STATE}.unreadable")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            self._tell(
                "state.unreadable", logging.ERROR, file=str(self._path), error=str(error)[:500], kept_as=str(aside),
                hint="pauses, blocks and other overrides are gone; set again what is still wanted",
            )  # fmt: skip
            return
        self._desired.restore(entries, version)
        self._version = version

    async def save(self) -> bool:
        """Returns when all that is desired now is in the file; False if that is not possible.

        Whoever comes while it is being written shares the next writing.
        """
        wanted = self._desired.version
        while self._path is not None and self._version < wanted:
            if self._writing is None:
                self._writing = asyncio.create_task(self._write(self._path))
            if not await asyncio.shield(self._writing):
                return False
        return True

    async def _write(self, path: Path) -> bool:
        version, entries = self._desired.version, self._desired.present()
        try:
            await asyncio.to_thread(_replace, path, version, entries)
        except OSError as error:
            if self.saved:
                self._tell("state.unsaved", logging.ERROR, file=str(path), error=error.strerror)
            self.saved = False
            return False
        finally:
            self._writing = None
        if not self.saved:
            self._tell("state.saved", logging.INFO, file=str(path))
        self._version, self.saved = version, True
        return True


def _replace(path: Path, version: int, entries: list[Entry]) -> None:
    text = json.dumps({"format": FORMAT, "version": version, "entries": [entry.shown() for entry in entries]})
    fresh = path.with_name(f"{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)
    fresh.replace(path)


def _read(text: bytes) -> tuple[list[Entry], int]:
    kept: Any = json.loads(text)
    match kept:
        case {"format": int(form), "version": int(version), "entries": list(entries)} if form == FORMAT:
            return [Entry.read(entry) for entry in entries], version
    raise ValueError("it holds something else")
