"""Reading the ledger's database directly: it needs no service, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from notifier.settings import Settings, load, without_password

if TYPE_CHECKING:
    from notifier.ledger.database import Database

T = TypeVar("T")


def reading(work: Callable[[Database], Awaitable[T]], settings: Settings | None = None) -> T:
    """Open the ledger of these settings (of this environment, if none are given), do this, and let go.

    Raises ConfigurationError, DatabaseUnavailable, DatabaseMismatch.
    """
    return asyncio.run(_reading(work, settings or load()))


async def _reading(work: Callable[[Database], Awaitable[T]], settings: Settings) -> T:
    from notifier.ledger import migrating  # here: its libraries take longer to import than all else
    from notifier.ledger.database import Database

    database = await Database.open(settings.database, read_only=True)
    try:
        await migrating.check(database, without_password(settings.database))
        return await work(database)
    finally:
        await database.close()
