"""What `notifier doctor` finds out about the ledger's database and the service that may be running here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from notifier import runtime
from notifier.cli.agent_line import AGENT
from notifier.cli.checks import Finding
from notifier.cli.ctl_answers import visible
from notifier.errors import ChildFailed, DatabaseMismatch, DatabaseUnavailable, NoMaster, NotifierError
from notifier.settings import Settings, without_password
from notifier.supervision.operator import Operator

#: Seconds that the master gets.
_PATIENCE = 5.0
_SQLITE = "sqlite:///"


async def database(settings: Settings) -> Finding:
    """Whether the ledger can be read, and is of this version. Nothing is made or changed."""
    from notifier.ledger import migrating  # here: it takes longer to import than all the rest of the doctor
    from notifier.ledger.database import Database

    shown = without_password(settings.database)
    if _is_not_made_yet(shown):
        return Finding("database", "ok", f"{shown} is not there yet; the first `notifier run` makes it")
    try:
        opened = await Database.open(settings.database, read_only=True)
        try:
            await migrating.check(opened, shown)
        finally:
            await opened.close()
    except DatabaseMismatch as error:
        return Finding("database", "fail", str(error), "notifier migrate, or correct NOTIFIER_DATABASE_URL")
    except DatabaseUnavailable as error:
        return Finding(
            "database",
            "fail",
            str(error),
            "start it, or correct NOTIFIER_DATABASE_URL; meanwhile deliveries go on, and facts wait in RabbitMQ",
        )
    return Finding("database", "ok", f"{shown} can be read, revision {migrating.head()}")


def _is_not_made_yet(address: str) -> bool:
    return address.startswith(_SQLITE) and not Path(address.removeprefix(_SQLITE)).exists()


async def service() -> list[Finding]:
    """Whether a service runs in this runtime directory, and what its agent says."""
    try:
        operator = await Operator.connect(runtime.directory())
    except NoMaster:
        return [Finding("agent", "ok", "no service runs here now; its agent is looked at when there is one")]
    except NotifierError as error:
        return [Finding("agent", "warn", str(error), "correct NOTIFIER_RUNTIME_DIR")]
    try:
        status = await operator.ask("status", timeout=_PATIENCE)
    except ChildFailed as error:
        return [Finding("agent", "warn", f"the master does not answer: {error}", "notifier ctl status")]
    finally:
        await operator.close()
    return agent(status)


def agent(status: Mapping[str, Any]) -> list[Finding]:
    """What there is to say of the agent in a status. Pure."""
    slot = next((slot for slot in status["slots"] if slot["slot"] == AGENT), None)
    if slot is None:
        return [
            Finding(
                "agent",
                "warn",
                "the service that runs here has no agent: nothing reaches the ledger, no merchant can be changed",
                "leave out --no-agent, unless another service on this machine has one",
            )
        ]
    if slot["state"] != "ready":
        waits = f": {visible(slot['note'])}" if slot["note"] else ""
        return [Finding("agent", "warn", f"the agent is {slot['state']}{waits}", "notifier ctl status")]
    found = list(_troubles(slot["statistics"]))
    return found or [Finding("agent", "ok", f"the agent works: {_work(slot['statistics'])}")]


def _troubles(of: Mapping[str, Any]) -> Iterator[Finding]:
    if of.get("database") == "down":
        why = visible(of.get("database_why") or "it does not say why")
        yield Finding(
            "agent",
            "fail",
            f"the agent has no database since {of.get('database_since')}: {why}",
            "start it; meanwhile deliveries go on, and facts wait in RabbitMQ",
        )
    if stale := (of.get("registry") or {}).get("stale_since"):
        said = f"the merchants of this machine may be out of date: they were compared last at {stale}"
        yield Finding("agent", "warn", said, "they are read again as soon as the database answers")
    if of.get("link") == "down":
        yield Finding("agent", "warn", "the agent has no connection to RabbitMQ just now", "notifier ctl status")
    for name in sorted({machine["machine"] for machine in of.get("fleet") or () if machine["twin"]}):
        said = f"two services call themselves {visible(name)}: operators cannot tell them apart"
        yield Finding("agent", "warn", said, "give each a NOTIFIER_MACHINE of its own")


def _work(of: Mapping[str, Any]) -> str:
    others = max(0, len(of.get("fleet") or ()) - 1)
    fleet = f", knows {others} other machine{'s' * (others != 1)}" if others else ""
    return f"registry at version {(of.get('registry') or {}).get('version')}, {of.get('held') or 0} held{fleet}"
