"""Faults of merchants: addresses at which nothing may ever arrive."""

from __future__ import annotations

import asyncio
import time

from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.load import FORBIDDEN
from tests.faults.verdict import Window

_MANY = 20


async def at_forbidden_addresses(field: Field, number: int) -> Window:
    """Notifications to an address that the guard does not let through, where somebody listens all the same."""
    began = time.time() * 1000
    sent = await field.load.burst([FORBIDDEN] * _MANY)
    exhausted = "', '".join(each.id for each in sent)
    async with asyncio.timeout(60):
        while (  # noqa: ASYNC110  a database tells nobody
            await field.books.count(
                f"SELECT count(*) FROM notifications WHERE status <> 'attempted' AND status <> 'accepted' "
                f"AND id IN ('{exhausted}')"
            )
            < _MANY
        ):
            await asyncio.sleep(0.2)
    refused = await field.books.count(
        f"SELECT count(*) FROM attempts WHERE error = 'guard' AND notification IN ('{exhausted}')"
    )
    if refused == 0 and not any(arrival.id == sent[0].id for arrival in field.receiver.arrivals):
        raise DidNotBite("no attempt was refused, and none arrived")
    return Window(began, began, began)
