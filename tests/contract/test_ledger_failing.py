"""Whose endpoint has acknowledged nothing for days: from hand-made attempts, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event, insert

from notifier.agent.giving_up import CALM, GivingUp
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.ledger.failing import DAY_MS, Failing, Rule, failing
from notifier.ledger.merchants import Row
from notifier.ledger.schema import attempts, notifications
from notifier.ledger.writing import FactWriter
from tests import told
from tests.told import NOW, notification

URL = "https://m.example/hook"
RULE = Rule(5)
#: Failures twice a day, for six days, the last one an hour ago: days before NOW.
STEADY = tuple(hours / 24 for hours in range(1, 6 * 24, 12))


async def registered(database: Database, merchant: str, changed_days: float = 30, **fields: Any) -> None:
    given: dict[str, Any] = {"body": "{}", "until": None, "url": URL, "standing": "enabled"} | fields
    changed_at = NOW - round(changed_days * DAY_MS)
    row = Row(merchant, 0, given["body"], given["standing"], given["until"], given["url"], changed_at)
    await merchants.change(database, merchant, lambda _: row)


async def attempted(
    database: Database, merchant: str, days: Sequence[float], url: str | None = None, *, good: bool = False
) -> None:
    """One notification of it with an attempt so many days before NOW each. url: None for the registered one."""
    name = f"{merchant}-{url and url[-3:]}-{good}-{len(days)}-{days[0]:.3f}"
    of = notification(name, merchant=merchant, url=url, enqueued_at=NOW - 40 * DAY_MS)
    await FactWriter(database).write([told.accepted(of, NOW - 40 * DAY_MS)])
    rows = [
        {
            "attempt": f"{name}-{number}", "notification": name, "merchant": merchant, "run": 0, "number": number + 1,
            "step": 0, "tier": "1s", "started": NOW - round(day * DAY_MS), "decision": "next",
            "error": None if good else "status",
        }
        for number, day in enumerate(days)
    ]  # fmt: skip
    async with database.begin() as connection:
        await connection.execute(insert(attempts), rows)
        # as told: the address that it brought itself, or none
        await connection.execute(notifications.update().where(notifications.c.id == name).values(url=url))


async def found(database: Database, rule: Rule = RULE, at: int = NOW) -> list[str]:
    return [one.merchant for one in await failing(database, rule, at)]


async def test_who_has_acknowledged_nothing_for_days_is_found_with_since_when_and_how_many(database: Database) -> None:
    await registered(database, "dead")
    await attempted(database, "dead", [20], good=True)
    await attempted(database, "dead", STEADY)
    await registered(database, "well")
    await attempted(database, "well", STEADY, good=True)
    await registered(database, "quiet")
    assert await failing(database, RULE, NOW) == [Failing("dead", URL, NOW - round(max(STEADY) * DAY_MS), len(STEADY))]


@pytest.mark.parametrize(
    ("good", "is_found"),
    [(20, True), (5.9, True), (5.2, False), (3, False), (0.001, False)],
    ids=["long ago", "before the failures", "between the first failures", "in the middle", "just now"],
)
async def test_one_success_in_between_saves_it(database: Database, good: float, is_found: bool) -> None:
    await registered(database, "m")
    failures = [days for days in STEADY if days < 5.8] if good != 5.2 else [days for days in STEADY if days < 5]
    await attempted(database, "m", failures)
    await attempted(database, "m", [good], good=True)
    assert await found(database) == ["m"] * is_found


@pytest.mark.parametrize(
    "days",
    [
        [day for day in STEADY if day < 4.9],
        [5.5, 0.1],
        [5.5, *[0.1 + number / 1000 for number in range(50)]],
        [*[4 + number / 1000 for number in range(50)], 5.5],
        [1.1 + number / 6 for number in range(36)],
        [5.5, *[4.9 - number / 1000 for number in range(25)], *[0.5 - number / 1000 for number in range(25)]],
    ],
    ids=[
        "not that long",
        "twice",
        "one bad day after a bad moment",
        "over for days",
        "quiet for a day",
        "two days only",
    ],
)
async def test_who_is_called_seldom_or_fails_briefly_is_left_alone(database: Database, days: list[float]) -> None:
    await registered(database, "m")
    await attempted(database, "m", days)
    assert await found(database) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"standing": "disabled"},
        {"standing": "blocked"},
        {"body": None, "standing": "disabled"},
        {"url": None},
        {"changed_days": 4.9},
    ],
    ids=["disabled", "blocked", "removed", "without an address", "changed meanwhile"],
)
async def test_who_cannot_be_called_or_was_changed_is_left_alone(database: Database, fields: dict[str, Any]) -> None:
    await registered(database, "m", **fields)
    await attempted(database, "m", STEADY)
    assert await found(database) == []


async def test_only_attempts_to_the_registered_address_count(database: Database) -> None:
    await registered(database, "elsewhere")
    await attempted(database, "elsewhere", STEADY, "https://its.own/x")
    await registered(database, "brought")
    await attempted(database, "brought", STEADY, URL)
    await registered(database, "both")
    await attempted(database, "both", STEADY)
    await attempted(database, "both", [0.01, 1.5], "https://its.own/x", good=True)
    assert await found(database) == ["both", "brought"]


async def test_of_many_merchants_each_is_looked_at_and_the_well_ones_cost_one_query(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.ledger.failing.PAGE", 10)
    for number in range(25):
        await registered(database, f"m{number:02}")
        await attempted(
            database, f"m{number:02}", STEADY if number in (3, 10, 24) else [0.01], good=number not in (3, 10, 24)
        )
    queries: list[str] = []
    event.listen(database._engine.sync_engine, "before_cursor_execute", lambda *given: queries.append(given[2]))
    assert await found(database) == ["m03", "m10", "m24"]
    assert sum("FROM merchants" in query for query in queries) == 3
    assert sum("FROM attempts JOIN" in query and "FROM merchants" not in query for query in queries) == 3 * 5


async def test_a_round_disables_with_the_reason_only_under_the_lease_and_with_the_database_long_there(
    database: Database,
) -> None:
    await registered(database, "dead")
    await attempted(database, "dead", STEADY)
    disabled: list[tuple[str, str, int, str]] = []
    state = {"up_for": CALM - 1, "holds": True, "now": NOW / 1000}

    async def disable(*told: Any) -> bool:
        disabled.append(told)
        return True

    def giving_up(days: float) -> GivingUp:
        return GivingUp(
            database, disable, days, up_for=lambda: state["up_for"], clock=lambda: state["now"],
            holds=lambda: bool(state["holds"]),
        )  # fmt: skip

    await giving_up(5).round()
    assert disabled == []
    state["up_for"] = CALM
    await giving_up(0).round()
    state["holds"] = False
    await giving_up(5).round()
    assert disabled == []
    state["holds"] = True
    await giving_up(5).round()
    why = "nothing acknowledged for more than 5 days: all 12 attempts since 2026-11-15T21:00Z failed"
    assert disabled == [("dead", URL, NOW, why)]
    state["now"] -= 1.0 * 86_400  # a day before it had not failed for long enough
    await giving_up(5).round()
    assert len(disabled) == 1
