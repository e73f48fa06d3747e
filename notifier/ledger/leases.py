"""What only one agent of the fleet does at a time: whoever holds the lease, for as long as it renews it.

A holder is one process: another one, also of the same machine or of a machine of the same name, is another holder.

A lease is a courtesy, not a lock: where two machines' clocks disagree by more than its length, both may hold it for a
moment. What is done under it must bear that, and does: a notification released twice is delivered twice at worst.
"""

from __future__ import annotations

import os
import secrets

from sqlalchemy import or_, update

from notifier.errors import NotifierError
from notifier.ledger.database import Database
from notifier.ledger.schema import leases


class LeaseLost(NotifierError):
    """What was to be done is another agent's to do by now."""

    def __init__(self) -> None:
        super().__init__("this agent was away for longer than its lease: another one goes on")


def fresh_holder(machine: str) -> str:
    """A name for this process that no other one has: not another service of the same name, nor this one before a
    crash, whose lease it waits for.
    """
    return f"{machine[:90]} {os.getpid()} {secrets.token_hex(8)}"


async def take(database: Database, name: str, holder: str, now_ms: int, span_ms: int) -> bool:
    """Take or renew the lease for `span_ms` from now; False while another holds it. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        vacant = {"name": name, "holder": "", "until": 0}
        await connection.execute(database.insert(leases).values(**vacant).on_conflict_do_nothing())
        taken = await connection.execute(
            update(leases)
            .where(leases.c.name == name, or_(leases.c.holder == holder, leases.c.until < now_ms))
            .values(holder=holder, until=now_ms + span_ms)
        )
        return taken.rowcount == 1


async def give_up(database: Database, name: str, holder: str) -> None:
    """Let another have it at once; fine if it is another's already. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        mine = (leases.c.name == name, leases.c.holder == holder)
        await connection.execute(update(leases).where(*mine).values(until=0))
