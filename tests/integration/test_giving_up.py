"""A merchant that acknowledged nothing for days, from its attempts to its standing, with a real registrar."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from notifier.agent.giving_up import CALM, GivingUp
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.ledger.failing import DAY_MS
from notifier.ledger.schema import attempts
from notifier.ledger.writing import FactWriter
from notifier.registry import form
from tests import told
from tests.integration.test_registrar import NOW, URL, Machine
from tests.told import notification

NOW_MS = int(NOW * 1000)


async def fail(database: Database, merchant: str, days: float, now_ms: int = NOW_MS) -> None:
    """Every six hours, for so many days before now."""
    of = notification(f"of-{merchant}", merchant=merchant, url=None, enqueued_at=now_ms - 20 * DAY_MS)
    await FactWriter(database).write([told.accepted(of, now_ms - 20 * DAY_MS)])
    rows = [
        {
            "attempt": f"{merchant}-{number}", "notification": of.id, "merchant": merchant, "run": 0, "step": 0,
            "number": number, "tier": "1s", "started": now_ms - 1000 - number * DAY_MS // 4, "decision": "next",
            "error": "connect",
        }
        for number in range(int(days * 4))
    ]  # fmt: skip
    async with database.begin() as connection:
        await connection.execute(insert(attempts), rows)


async def standing(database: Database, merchant: str) -> tuple[str, str | None]:
    row = await merchants.get(database, merchant)
    assert row is not None
    shown = form.shown(form.read(row.id, row.body or "", row.version, row.changed_at), NOW_MS)
    return shown["standing"], shown["why"]


async def test_it_is_disabled_with_the_reason_and_once_enabled_it_has_as_many_days_again(
    database: Database, tmp_path: Path
) -> None:
    machine = Machine(database, tmp_path)
    machine.now = NOW - 15 * 86_400
    await machine.registrar.start()
    for merchant in ("dead", "mended", "elsewhere"):
        await machine.change("add", merchant, url=URL)
        await fail(database, merchant, 6)
    machine.now = NOW - 86_400
    await machine.change("set", "mended", concurrency=5)

    async def moved_meanwhile(merchant: str, url: str, at_ms: int, why: str) -> bool:
        """Somebody corrects an address in the moment before."""
        if merchant == "elsewhere":
            await machine.change("set", "elsewhere", url="https://new.example/")
        return await machine.registrar.gone(merchant, url, at_ms, why)

    machine.now = NOW
    giving_up = GivingUp(database, moved_meanwhile, 5, up_for=lambda: CALM, clock=lambda: machine.now)
    await giving_up.round()
    assert await standing(database, "dead") == (
        "disabled",
        "nothing acknowledged for more than 5 days: all 24 attempts since 2027-01-09T13:59Z failed",
    )
    assert await standing(database, "mended") == ("enabled", None)
    assert await standing(database, "elsewhere") == ("enabled", None)
    assert [critical for _, critical in machine.told].count(True) == 1, "who does not hear of it is restarted"

    machine.now = NOW + 1
    await machine.change("enable", "dead")
    await giving_up.round()
    assert await standing(database, "dead") == ("enabled", None)
    await machine.registrar.close()
    machine.registry.close()
