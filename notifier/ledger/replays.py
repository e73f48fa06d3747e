"""Replays by filter: what was asked for, and how far it has come. The rows are the job's whole memory."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, case, desc, func, insert, select, update

from notifier import logs
from notifier.ledger.database import Database
from notifier.ledger.schema import events, replays


@dataclass(frozen=True, slots=True)
class Replay:
    """One job. wanted: the filter, as it was asked for. state: running, done or cancelled. total: matched at the start.

    done, skipped: replayed, and not to be replayed. cursor: where to go on. Moments are Unix milliseconds.
    """

    id: str
    wanted: Mapping[str, Any]
    who: str
    state: str
    total: int
    done: int
    skipped: int
    cursor: str | None
    created_at: int
    finished_at: int | None
    problem: str | None

    @property
    def by(self) -> str:
        """Who replays, as it stands with each notification that the job replayed."""
        return f"{self.who[:200]} ({self.id})"

    def shown(self) -> dict[str, Any]:
        """As JSON, for people and programs."""
        return {
            "id": self.id,
            "filter": dict(self.wanted),
            "who": self.who,
            "state": self.state,
            "total": self.total,
            "done": self.done,
            "skipped": self.skipped,
            "created_at": logs.moment(self.created_at),
            "finished_at": None if self.finished_at is None else logs.moment(self.finished_at),
            "problem": self.problem,
        }


async def create(database: Database, wanted: Mapping[str, Any], who: str, total: int, now_ms: int) -> Replay:
    """A new job, running. Raises DatabaseUnavailable."""
    replay = Replay(f"rpl_{secrets.token_hex(8)}", dict(wanted), who, "running", total, 0, 0, None, now_ms, None, None)
    row = {column.name: getattr(replay, column.name) for column in replays.columns if column.name != "filter"}
    async with database.begin() as connection:
        await connection.execute(insert(replays).values(row | {"filter": json.dumps(dict(wanted))}))
    return replay


async def get(database: Database, replay: str) -> Replay | None:
    """One job; None for an id that is not known. Raises DatabaseUnavailable."""
    async with database.connect() as connection:
        row = (await connection.execute(select(replays).where(replays.c.id == replay))).first()
    return None if row is None else _read(row)


async def latest(database: Database, limit: int = 50) -> list[Replay]:
    """The newest jobs, newest first. Raises DatabaseUnavailable."""
    query = select(replays).order_by(desc(replays.c.created_at), replays.c.id).limit(limit)
    async with database.connect() as connection:
        return [_read(row) for row in await connection.execute(query)]


async def running(database: Database) -> list[Replay]:
    """What is not finished, oldest first. Raises DatabaseUnavailable."""
    query = select(replays).where(replays.c.state == "running").order_by(replays.c.created_at, replays.c.id)
    async with database.connect() as connection:
        return [_read(row) for row in await connection.execute(query)]


async def advance(database: Database, replay: Replay, done: int, skipped: int, cursor: str | None) -> bool:
    """So many more were done and skipped, and it goes on there. False, and nothing is counted, if somebody else
    has gone on with it meanwhile. Raises DatabaseUnavailable.
    """
    async with database.begin() as connection:
        advanced = await connection.execute(
            update(replays)
            .where(replays.c.id == replay.id, replays.c.cursor.is_not_distinct_from(replay.cursor))
            .values(done=replays.c.done + done, skipped=replays.c.skipped + skipped, cursor=cursor)
        )
        return advanced.rowcount == 1


async def replayed_by(database: Database, ids: Sequence[str], who: str) -> set[str]:
    """Those of them that were sent again by this one before. Raises DatabaseUnavailable."""
    query = select(events.c.notification).where(
        events.c.notification.in_(ids), events.c.kind == "replayed", events.c.who == who
    )
    async with database.connect() as connection:
        return set((await connection.execute(query)).scalars())


async def complete(database: Database, replay: Replay, now_ms: int) -> None:
    """All of it is done. Raises DatabaseUnavailable.

    How many that were is counted once more: an agent that died had perhaps done a piece and not said so.
    """
    query = select(func.count(func.distinct(events.c.notification))).where(
        events.c.at >= replay.created_at, events.c.kind == "replayed", events.c.who == replay.by
    )
    async with database.connect() as connection:
        counted = int((await connection.execute(query)).scalar_one())
    async with database.begin() as connection:
        done = case((replays.c.done < counted, counted), else_=replays.c.done)
        await connection.execute(update(replays).where(replays.c.id == replay.id).values(done=done))
    await finish(database, replay.id, now_ms)


async def finish(database: Database, replay: str, now_ms: int, state: str = "done", problem: str | None = None) -> bool:
    """It ends here; False if it had ended before. Raises DatabaseUnavailable."""
    async with database.begin() as connection:
        ended = await connection.execute(
            update(replays)
            .where(replays.c.id == replay, replays.c.state == "running")
            .values(state=state, finished_at=now_ms, problem=problem)
        )
        return ended.rowcount == 1


def _read(row: Row[Any]) -> Replay:
    columns = dict(row._mapping)
    return Replay(wanted=json.loads(columns.pop("filter")), **columns)
