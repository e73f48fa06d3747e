"""What the doctor makes of the database and of what the agent says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from notifier.cli import doctor_service
from notifier.ledger import migrating
from notifier.settings import Settings

WELL: dict[str, Any] = {
    "database": "up",
    "database_since": "2026-11-21T10:00:00.000Z",
    "database_why": None,
    "registry": {"version": 7, "stale_since": None},
    "held": 3,
    "fleet": [{"machine": "a", "twin": False}],
    "link": "up",
}


def status(**statistics: Any) -> dict[str, Any]:
    agent = {"slot": "agent", "state": "ready", "note": None, "statistics": WELL | statistics}
    return {"slots": [{"slot": "tier:1s", "state": "ready", "note": None, "statistics": {}}, agent]}


@pytest.mark.parametrize(
    ("statistics", "level", "said"),
    [
        ({}, "ok", "the agent works: registry at version 7, 3 held"),
        (
            {"fleet": [{"machine": name, "twin": False} for name in "abc"], "held": None},
            "ok",
            "the agent works: registry at version 7, 0 held, knows 2 other machines",
        ),
        (
            {"database": "down", "database_why": "refused"},
            "fail",
            "the agent has no database since 2026-11-21T10:00:00.000Z: refused",
        ),
        (
            {"registry": {"version": 7, "stale_since": "2026-11-21T09:00:00.000Z"}},
            "warn",
            "the merchants of this machine may be out of date: they were compared last at 2026-11-21T09:00:00.000Z",
        ),
        ({"link": "down"}, "warn", "the agent has no connection to RabbitMQ just now"),
        (
            {"fleet": [{"machine": "a", "twin": True}, {"machine": "a", "twin": True}]},
            "warn",
            "two services call themselves a: operators cannot tell them apart",
        ),
    ],
)
def test_what_an_agent_says_about_itself_is_judged(statistics: dict[str, Any], level: str, said: str) -> None:
    (finding,) = doctor_service.agent(status(**statistics))
    assert (finding.level, finding.said) == (level, said)
    assert (finding.remedy is None) is (level == "ok")


def test_several_troubles_are_several_findings() -> None:
    found = doctor_service.agent(status(database="down", link="down"))
    assert [finding.level for finding in found] == ["fail", "warn"]


def test_a_service_without_an_agent_or_with_one_that_waits_is_a_warning() -> None:
    without = status()
    without["slots"].pop()
    (finding,) = doctor_service.agent(without)
    assert (finding.level, "has no agent" in finding.said) == ("warn", True)
    waits = status()
    waits["slots"][1] |= {"state": "starting", "note": "waiting for the broker"}
    (finding,) = doctor_service.agent(waits)
    assert (finding.level, finding.said) == ("warn", "the agent is starting: waiting for the broker")


async def test_a_database_is_missing_unmigrated_good_or_none(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": str(tmp_path)})
    finding = await doctor_service.database(settings)
    assert (finding.level, "is not there yet" in finding.said) == ("ok", True)
    file = tmp_path / "ledger.db"
    file.touch()
    finding = await doctor_service.database(settings)
    assert finding.level == "fail"
    assert "has no tables of notifier yet" in finding.said
    assert finding.remedy is not None
    assert "notifier migrate" in finding.remedy
    await migrating.migrate(settings.database)
    finding = await doctor_service.database(settings)
    assert (finding.level, finding.said) == ("ok", f"sqlite:///{file} can be read, revision {migrating.head()}")
    settings = Settings.model_validate({"database_url": "postgresql://u:hush@127.0.0.1:1/ledger"})
    finding = await doctor_service.database(settings)
    assert finding.level == "fail"
    assert "hush" not in finding.said
