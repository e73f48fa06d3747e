"""Which ids a batch has used so far."""

from __future__ import annotations

from notifier.errors import InvalidNotification


class Seen:
    """Remembers ids and their lines. In a temporary database that moves to disk as it grows (SQLite's empty name), so
    that a file of millions costs no memory."""

    def __init__(self) -> None:
        import sqlite3

        self._database = sqlite3.connect("")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")

    def check(self, notification_id: str, line: int) -> None:
        """Remember it. Raises InvalidNotification when an earlier line has it already."""
        added = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (notification_id, line))
        if added.rowcount:
            return
        (earlier,) = self._database.execute("SELECT line FROM seen WHERE id = ?", (notification_id,)).fetchone()
        raise InvalidNotification(f"id {notification_id!r} is on line {earlier} already; an id names one notification")

    def close(self) -> None:
        """Forget all. Twice is fine."""
        self._database.close()
