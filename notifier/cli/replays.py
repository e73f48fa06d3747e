"""Sending again by filter: a job of the agent, whose progress is read from the database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from notifier.cli import ctl_spans
from notifier.cli.agent_line import ask_agent, who
from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_line import complain, print_json
from notifier.cli.ledger_line import reading
from notifier.cli.table import print_table
from notifier.errors import NotFound, NotifierError

if TYPE_CHECKING:
    from notifier.ledger.database import Database

#: Seconds between two looks at a job.
PERIOD = 0.5
_HEADS = ["JOB", "STATE", "DONE", "LEFT OUT", "OF", "SINCE", "BY", "FILTER"]


def by_filter(said: Mapping[str, Any], dry_run: bool, yes: bool, follow: bool, as_json: bool) -> None:
    """Count, ask, start, and wait for the end if that is wanted."""
    count = reading(lambda database: _count(database, said))
    if dry_run:
        if as_json:
            print_json({"filter": said, "total": count})
        else:
            typer.echo(f"{count:,} would be sent again, but for those that are held or still on their way")
        return
    if not yes:
        _ask(count)
    started = ask_agent("replays.start", {"filter": said, "who": who()})
    if follow:
        job = reading(lambda database: _ended(database, started["replay"], as_json))
        print_json(job) if as_json else print_jobs([job])
        if job["state"] != "done":
            raise typer.Exit(1)
    elif as_json:
        print_json(started)
    else:
        typer.echo(started["replay"])
        complain(f"{started['total']:,} are sent again; how far: notifier notifications replays {started['replay']}")


def show(job: str | None, limit: int, as_json: bool) -> None:
    """One job, or the newest ones."""
    if job is None:
        found = reading(lambda database: _latest(database, limit))
        if as_json:
            print_json({"items": found})
        else:
            print_jobs(found)
        return
    one = reading(lambda database: _job(database, job))
    if as_json:
        print_json(one)
    else:
        print_jobs([one])


def print_jobs(jobs: list[dict[str, Any]]) -> None:
    """A table for people."""
    if not jobs:
        typer.echo("nothing was replayed by filter yet")
        return
    now = datetime.now(UTC)
    print_table(_HEADS, [_row(job, now) for job in jobs], right=("DONE", "LEFT OUT", "OF"))
    for job in jobs:
        if job["problem"]:
            complain(f"{job['id']}: {visible(job['problem'])}")


def _row(job: Mapping[str, Any], now: datetime) -> list[str]:
    filter_ = " ".join(
        f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in job["filter"].items()
    )
    return [
        job["id"],
        job["state"],
        f"{job['done']:,}",
        f"{job['skipped']:,}",
        f"{job['total']:,}",
        ctl_spans.moment(job["created_at"], now),
        visible(job["who"]),
        visible(filter_),
    ]


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{count:,} notifications would be sent again: add --yes to mean it")
    if not typer.confirm(f"Send {count:,} notifications again?", err=True):
        complain("nothing was sent")
        raise typer.Exit(1)


async def _count(database: Database, said: Mapping[str, Any]) -> int:
    from notifier.ledger.notifications import Filter, count

    return await count(database, Filter.parse(said).to_send())


async def _latest(database: Database, limit: int) -> list[dict[str, Any]]:
    from notifier.ledger import replays

    return [replay.shown() for replay in await replays.latest(database, limit)]


async def _job(database: Database, job: str) -> dict[str, Any]:
    from notifier.ledger import replays

    found = await replays.get(database, job)
    if found is None:
        raise NotFound(f"there is no replay {job!r:.80}; `notifier notifications replays` shows those there are")
    return found.shown()


async def _ended(database: Database, job: str, as_json: bool) -> dict[str, Any]:
    """Its progress moves on a terminal. A database that is away for a moment does not end the waiting."""
    from notifier.cli.telling import Telling

    telling = Telling()
    telling.start_moving(None)
    try:
        while True:
            try:
                found = await _job(database, job)
            except NotFound:
                raise
            except NotifierError as error:
                telling.say(str(error))
            else:
                done = found["done"] + found["skipped"]
                telling.move(f"{done:,} of {found['total']:,}", done)
                if found["state"] != "running":
                    return found
            await asyncio.sleep(PERIOD)
    finally:
        telling.stop_moving()
