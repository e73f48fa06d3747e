"""This machine's copy of the registry: one SQLite file, written by the agent, read by all processes of the machine.

The standard library's sqlite3, since a tier process must stay small. WAL, so that readers never wait for the writer;
every change is one transaction, so that they never see a half of it. A copy is complete as soon as it has an origin,
the name of the registry that it is a copy of.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notifier.errors import RegistryUnreadable

FILE = "merchants.db"
#: Seconds to wait for a lock: readers meet one only while a crashed writer's log is recovered.
_BUSY = 1.0
#: Of a reader, KiB: it looks up single rows, and the page cache of the system has them.
_READER_CACHE = 256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS copy (
    id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, origin TEXT NOT NULL,
    version INTEGER NOT NULL, confirmed_at INTEGER NOT NULL, repairs INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS merchants (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT, changed_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS merchants_version ON merchants (version);
CREATE TABLE IF NOT EXISTS cancellations (
    notification TEXT PRIMARY KEY, version INTEGER NOT NULL, run INTEGER NOT NULL, why TEXT, until INTEGER NOT NULL
) WITHOUT ROWID;
"""
#: Of what stands above; a file of another one is made anew.
_FORMAT = 1
#: No version is greater: 64 bits.
_GREATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A merchant's row. body: see `form`; None: it was removed. changed_at: Unix milliseconds."""

    id: str
    version: int
    body: str | None
    changed_at: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A notification that is not to be attempted any more, up to and with a run. until: Unix ms, kept so long."""

    notification: str
    version: int
    run: int
    why: str | None
    until: int


@dataclass(frozen=True, slots=True)
class Stand:
    """How far a registry, or a copy of it, is. origin: which one.

    Of a copy alone: confirmed_at, when it was last known to be equal, Unix ms; repairs, how often a comparison found
    what no version told.
    """

    origin: str
    version: int
    confirmed_at: int = 0
    repairs: int = 0


class ReplicaReader:
    """Looks up single rows; each look takes some tens of microseconds and does not wait for the writer.

    The file may come, go and be replaced meanwhile. One that is not complete answers nothing: that it lacks a merchant
    does not mean that there is none. Not to be used by two threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complete = False  # the file that is open is known to be
        self._file = (0, 0)
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Twice is fine; looking again opens it again."""
        connection, self._connection = self._connection, None
        self._complete = False
        if connection is not None:
            connection.close()

    def stand(self) -> Stand | None:
        """How far the copy is; None while there is none that is complete. Raises RegistryUnreadable."""
        try:
            file = self._path.stat()
        except FileNotFoundError:
            self.close()
            return None
        except OSError as error:
            raise self._unreadable(error) from None
        if (file.st_dev, file.st_ino) != self._file:
            self.close()  # another file stands there now
        query = "SELECT origin, version, confirmed_at, repairs FROM copy WHERE format = ?"
        rows = self._look(query, _FORMAT, complete=False)
        return Stand(*rows[0]) if rows else None

    def merchant(self, merchant: str) -> Kept | None:
        """One merchant's row, also one that says it was removed. Raises RegistryUnreadable."""
        rows = self._look("SELECT id, version, body, changed_at FROM merchants WHERE id = ?", merchant)
        return Kept(*rows[0]) if rows else None

    def changed_since(self, version: int, most: int) -> list[str]:
        """Ids of merchants that changed after that version, at most so many. Raises RegistryUnreadable."""
        rows = self._look("SELECT id FROM merchants WHERE version > ? LIMIT ?", version, most)
        return [merchant for (merchant,) in rows]

    def cancellation(self, notification: str) -> Cancelled | None:
        """Raises RegistryUnreadable."""
        rows = self._look(
            "SELECT notification, version, run, why, until FROM cancellations WHERE notification = ?", notification
        )
        return Cancelled(*rows[0]) if rows else None

    def any_cancellation(self) -> bool:
        """Whether there is one at all. Raises RegistryUnreadable."""
        return bool(self._look("SELECT 1 FROM cancellations LIMIT 1"))

    def _look(self, query: str, *values: object, complete: bool = True) -> list[Any]:
        try:
            return self._asked(query, values, complete)
        except (sqlite3.Error, OSError):
            self.close()  # the file may have been replaced
        try:
            return self._asked(query, values, complete)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._unreadable(error) from None

    def _asked(self, query: str, values: tuple[object, ...], complete: bool) -> list[Any]:
        connection = self._opened()
        if complete and not self._complete:
            if not connection.execute("SELECT 1 FROM copy WHERE format = ?", (_FORMAT,)).fetchone():
                raise RegistryUnreadable(f"this machine's copy of the merchants, {self._path}, is not complete yet")
            self._complete = True
        return connection.execute(query, values).fetchall()

    def _unreadable(self, error: Exception) -> RegistryUnreadable:
        return RegistryUnreadable(f"this machine's copy of the merchants, {self._path}, cannot be read: {error}")

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            file = self._path.stat()
            self._file = (file.st_dev, file.st_ino)
            # not mode=ro: a reader of a WAL file that nobody has open must be able to make the shared memory beside it
            self._connection = sqlite3.connect(f"{self._path.as_uri()}?mode=rw", uri=True, timeout=_BUSY)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute(f"PRAGMA cache_size = -{_READER_CACHE}")
        return self._connection


class ReplicaWriter:
    """The agent's end. Every method but `open` raises sqlite3.Error if the disk does not do what it should.

    May be used by several threads, one at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open_connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, made if it is missing, made anew if it is of another format or damaged.

        Raises RegistryUnreadable if that cannot be done, with what to do.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # no right, no space, locked: the file may be good
                    raise
                self._throw_away()
                self._open()
        except (sqlite3.Error, OSError) as error:
            raise RegistryUnreadable(
                f"this machine's copy of the merchants, {self.path}, cannot be written: {error}; see that its "
                "directory (NOTIFIER_STATE_DIR) belongs to the user of the service and has space"
            ) from None

    def close(self) -> None:
        """Twice is fine."""
        if self._open_connection is not None:
            self._open_connection.close()
        self._open_connection = None

    def renew(self) -> None:
        """Throw a damaged file away and begin an empty one. Raises RegistryUnreadable like `open`."""
        self.close()
        self._throw_away()
        self.open()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open_connection is None:
            raise sqlite3.ProgrammingError("the copy of the merchants is not open")
        return self._open_connection

    def stand(self) -> Stand | None:
        """How far it is; None while it is not complete."""
        row = self._connection.execute("SELECT origin, version, confirmed_at, repairs FROM copy").fetchone()
        return None if row is None else Stand(*row)

    def merchant(self, merchant: str) -> Kept | None:
        """One merchant's row, also one that says it was removed."""
        row = self._connection.execute(
            "SELECT id, version, body, changed_at FROM merchants WHERE id = ?", (merchant,)
        ).fetchone()
        return None if row is None else Kept(*row)

    def confirm(self, now_ms: int) -> None:
        """It was found equal at this moment."""
        with self._transaction():
            self._connection.execute("UPDATE copy SET confirmed_at = ?", (now_ms,))

    def apply(self, merchants: Iterable[Kept], cancellations: Iterable[Cancelled], stand: Stand) -> None:
        """Take over these rows and say that the copy is as far as `stand`: one transaction."""
        with self._transaction():
            self._put(merchants)
            self._cancel(cancellations)
            self._say(stand)

    def keep(self, merchants: Iterable[Kept], cancellations: Iterable[Cancelled]) -> None:
        """Take over these rows, without saying that everything before them is here."""
        with self._transaction():
            self._put(merchants)
            self._cancel(cancellations)

    def between(self, after: int, last: int | None) -> dict[str, Kept]:
        """The rows with versions over `after`, up to and with `last` if that is not None; by their ids."""
        query = "SELECT id, version, body, changed_at FROM merchants WHERE version > ? AND version <= ?"
        rows = self._connection.execute(query, (after, _GREATEST if last is None else last))
        return {row[0]: Kept(*row) for row in rows}

    def repair(self, merchants: Iterable[Kept], gone: Iterable[str], stand: Stand) -> None:
        """Take over these rows, remove those, and say that the copy is as far as `stand`: one transaction."""
        with self._transaction():
            self._put(merchants)
            self._connection.executemany("DELETE FROM merchants WHERE id = ?", ((merchant,) for merchant in gone))
            self._say(stand)

    def cancellations(self) -> set[Cancelled]:
        """All that there are."""
        rows = self._connection.execute("SELECT notification, version, run, why, until FROM cancellations")
        return {Cancelled(*row) for row in rows}

    def replace_cancellations(self, cancellations: Iterable[Cancelled]) -> None:
        """These, and no others: one transaction."""
        with self._transaction():
            self._connection.execute("DELETE FROM cancellations")
            self._cancel(cancellations)

    @contextlib.contextmanager
    def rebuilt(self) -> Iterator[Callable[[Iterable[Kept]], None]]:
        """One transaction, empty at its beginning, into which rows are put; the last word in it has `finish`.

        Given up, with everything as it was, when the block is left with an exception.
        """
        with self._transaction():
            for table in ("merchants", "cancellations", "copy"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608  # names from this line
            yield self._put

    def finish(self, cancellations: Iterable[Cancelled], stand: Stand) -> None:
        """What is rebuilt is complete with these."""
        self._cancel(cancellations)
        self._say(stand)

    def _put(self, merchants: Iterable[Kept]) -> None:
        self._connection.executemany(
            "INSERT INTO merchants (id, version, body, changed_at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "version = excluded.version, body = excluded.body, changed_at = excluded.changed_at",
            ((kept.id, kept.version, kept.body, kept.changed_at) for kept in merchants),
        )

    def _cancel(self, cancellations: Iterable[Cancelled]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO cancellations (notification, version, run, why, until) VALUES (?, ?, ?, ?, ?)",
            ((each.notification, each.version, each.run, each.why, each.until) for each in cancellations),
        )

    def _say(self, stand: Stand) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO copy (id, format, origin, version, confirmed_at, repairs) "
            "VALUES (1, ?, ?, ?, ?, ?)",
            (_FORMAT, stand.origin, stand.version, stand.confirmed_at, stand.repairs),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _open(self) -> None:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        os.chmod(self.path, 0o600)  # the files beside it take over its mode
        connection = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is fetched again
            connection.execute("PRAGMA journal_size_limit = 4194304")
            connection.executescript(_SCHEMA)
            formats = connection.execute("SELECT format FROM copy").fetchall()
            if formats not in ([], [(_FORMAT,)]):
                raise sqlite3.DatabaseError("another format")
        except BaseException:
            connection.close()
            raise
        self._open_connection = connection

    def _throw_away(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
