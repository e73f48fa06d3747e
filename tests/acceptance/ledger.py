"""The ledger of a running service, as a test looks at it with SQLite's own library; and the agent's actions."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from notifier.supervision.operator import Operator


class Ledger:
    """A SQLite ledger, read beside the service that writes it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.file = Path(variables["NOTIFIER_STATE_DIR"]) / "ledger.db"

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """What a query finds."""
        with contextlib.closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def count(self, query: str, *values: object) -> int:
        """The one number that a query finds."""
        ((found,),) = (tuple(row.values()) for row in self.rows(query, *values))
        return int(found)

    def statuses(self) -> dict[str, int]:
        """How many notifications there are in each status."""
        counted = self.rows("SELECT status, count(*) AS count FROM notifications GROUP BY status")
        return {row["status"]: row["count"] for row in counted}

    def attempts(self) -> list[tuple[str, int, int]]:
        """(notification, run, number) of every attempt."""
        found = self.rows("SELECT notification, run, number FROM attempts")
        return sorted((row["notification"], row["run"], row["number"]) for row in found)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes for the length of the block."""
        connection = sqlite3.connect(self.file, timeout=30, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    async def until(self, true: Callable[[], object | Awaitable[object]], what: str, timeout: float = 30) -> Any:
        """Asked again and again, since what a database holds is no event."""
        found: Any = None
        try:
            async with asyncio.timeout(timeout):
                while not found:
                    await asyncio.sleep(0.05)
                    with contextlib.suppress(sqlite3.OperationalError):  # no tables yet, or locked by a test
                        found = true()
                        if asyncio.iscoroutine(found):
                            found = await found
        except TimeoutError:
            raise AssertionError(f"waited {timeout:g} s for {what}; there are {self._told()}") from None
        return found

    def _told(self) -> dict[str, int]:
        try:
            return self.statuses()
        except sqlite3.OperationalError:
            return {}


async def ask_agent(operator: Operator, action: str, **data: Any) -> Any:
    """What the agent did, or AssertionError with its problem."""
    answer = await agent_says(operator, action, **data)
    assert "ok" in answer, answer
    return answer["ok"]


async def agent_says(operator: Operator, action: str, **data: Any) -> Any:
    """The agent's whole answer."""
    (reply,) = (await operator.ask("send", {"to": "agent", "action": action, "data": data}, timeout=40))["replies"]
    assert reply["result"] == "done", reply
    return reply["data"]
