"""A request with an Idempotency-Key is worked on once, however often it comes and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from notifier.api.problems import Problem
from notifier.errors import DatabaseUnavailable
from notifier.ledger import claims
from notifier.ledger.claims import Answered, Mine
from notifier.ledger.database import Database

#: Seconds that a double waits for the one who works on it: longer than a claim is anybody's.
PATIENCE = claims.LEASE / 1000 + 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5

#: Does the work under these ids; returns HTTP status and body.
Work = Callable[[Sequence[str | None]], Awaitable[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Keyed:
    """Which request it is. scope: whose key it is. digest: of its body."""

    scope: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer. again: it is that of an earlier request."""

    code: int
    body: str
    again: bool


class Once:
    """Holds the doubles of this process together, so that only one of them asks the database. clock: Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._running: dict[Keyed, asyncio.Future[Reply]] = {}

    async def run(self, database: Database, request: Keyed, ids: Sequence[str | None], work: Work) -> Reply:
        """The answer to the request, whether the work was done now, by a double, or earlier.

        Raises InvalidInput if the key belongs to another request, DatabaseUnavailable when it cannot be claimed, and
        what the work raises: to its doubles, too, so that they do not queue up for the same failure.
        """
        if (running := self._running.get(request)) is not None:
            reply = await asyncio.shield(running)
            return Reply(reply.code, reply.body, again=True)
        mine: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        mine.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may have waited
        self._running[request] = mine
        try:
            reply = await self._claimed(database, request, ids, work)
        except BaseException as error:
            mine.set_exception(error if isinstance(error, Exception) else _interrupted())
            raise
        else:
            mine.set_result(reply)
            return reply
        finally:
            del self._running[request]

    async def _claimed(self, database: Database, request: Keyed, ids: Sequence[str | None], work: Work) -> Reply:
        """Claim it, wait while somebody else works on it, take over what nobody works on any more."""
        deadline, pause = time.monotonic() + PATIENCE, _FIRST_PAUSE
        while True:
            claim = await claims.take(
                database, request.scope, request.key, request.digest, ids, int(self._clock() * 1000)
            )
            match claim:
                case Answered(code, answer):
                    return Reply(code, answer, again=True)
                case Mine(claimed):
                    return await self._worked(database, request, claimed, work)
            if time.monotonic() > deadline:
                raise Problem("unavailable", "another request with this Idempotency-Key is still being worked on")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _worked(self, database: Database, request: Keyed, ids: Sequence[str | None], work: Work) -> Reply:
        try:
            code, body = await work(ids)
        except Exception:
            with contextlib.suppress(DatabaseUnavailable):
                await claims.give_up(database, request.scope, request.key)
            raise
        with contextlib.suppress(DatabaseUnavailable):  # it is accepted; asked again, it is published under its ids
            await claims.answer(database, request.scope, request.key, code, body)
        return Reply(code, body, again=False)


def _interrupted() -> Problem:
    return Problem("unavailable", "the request with this Idempotency-Key was interrupted; send it again")
