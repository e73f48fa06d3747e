"""Faults of merchants: an address at which nothing may ever arrive, and one that is handed more than it may get."""

from __future__ import annotations

import asyncio
import time

from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.load import FORBIDDEN, HANG
from tests.faults.verdict import CAP, Window

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


async def crowded(field: Field, number: int) -> Window:
    """Far more at once for one merchant, who takes his time, than his cap allows at the same time. He lets go only once
    others that were handed in later have come: what would have come beyond his cap has come by then.
    """
    began = time.time() * 1000
    many = {each.id for each in await field.load.burst([HANG] * 3 * CAP, merchant="crowded")}
    came = 0

    def arrived(at_least: int) -> bool:
        nonlocal came
        came = sum(arrival.id in many for arrival in field.receiver.arrivals[-2000:])
        return came >= at_least

    later = {each.id for each in await field.load.burst(["prompt"] * CAP)}
    await field.receiver.until(lambda: arrived(CAP), 30, "the merchant had as many as he may have")
    await field.receiver.until(
        lambda: later <= {arrival.id for arrival in field.receiver.arrivals[-2000:]}, 30, "later ones came to others"
    )
    while came < len(many):
        field.receiver.let_go()
        await field.receiver.until(lambda known=came: arrived(known + 1), 30, "the next ones came")  # type: ignore[misc]
    field.receiver.let_go()
    if not any(arrival.beside >= CAP for arrival in field.receiver.arrivals[-2000:] if arrival.id in many):
        raise DidNotBite("the merchant never had as many at once as he may have")
    return Window(began, began, began)
