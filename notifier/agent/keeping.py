"""What one agent of the fleet does for all: release, replay, prune. It holds the lease `keeper` for it.

Every few seconds, and at once when there is reason to; so nothing depends on having been woken. Whatever fails is told
and tried again in the next round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from notifier import logs
from notifier.agent.release import Release
from notifier.agent.replaying import Replaying
from notifier.agent.watched import watched
from notifier.errors import DatabaseUnavailable, NotifierError
from notifier.ledger import holding, leases
from notifier.ledger.database import Database

LEASE = "keeper"
#: Seconds: between two rounds, of the lease, between two looks at deadlines, at retention, at how much is held.
ROUND, SPAN, DEADLINES, PRUNING, COUNTING = 2.0, 15.0, 60.0, 600.0, 10.0
#: Seconds between two pieces of the same work: facts want to be written meanwhile. (A release says itself how many.)
BREATH = 0.02
#: Of the lease: it is renewed when a third of it is over, also in the middle of a long round.
RENEWAL = SPAN / 3

#: Prunes a small piece; true as long as more may be left.
Prune = Callable[[], Awaitable[bool]]


class Keeper:
    """Runs the rounds from `start` to `close`. holder: this process, as no other is called. clock: Unix seconds.

    further: more rounds, by name, with the seconds between two of them. held: how many notifications are held, None as
    long as nobody looked.
    """

    def __init__(
        self,
        database: Database,
        release: Release,
        replaying: Replaying,
        prune: Prune,
        holder: str,
        *,
        further: Mapping[str, tuple[float, Callable[[], Awaitable[object]]]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.held: int | None = None
        self._database = database
        self._release = release
        self._replaying = replaying
        self._prune = prune
        self._holder = holder
        self._further = further or {}
        self._clock = clock
        self._until = 0.0
        self._news = asyncio.Event()
        self._lease = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def holds(self) -> bool:
        """Whether the lease is this agent's. Not any more once it ran out, also if this process stood still meanwhile
        and nobody has told it: asked before each thing that another agent might be doing.
        """
        return self._clock() < self._until

    def start(self) -> None:
        """Begin; the first round is at once."""
        rounds: dict[str, Callable[[], Awaitable[None]]] = {
            "lease": self._keep_lease,
            "release": partial(
                self._forever, ROUND, self._release.round, self._news, soon=lambda _: self._release.pause
            ),
            "replays": partial(self._forever, ROUND, self._replaying.round, self._replaying.started),
            "deadlines": partial(self._forever, DEADLINES, self._release.end_overdue),
            "pruning": partial(self._forever, PRUNING, self._prune),
            "held": partial(self._forever, COUNTING, self._count),
            **{name: partial(self._forever, pause, work) for name, (pause, work) in self._further.items()},
        }
        self._tasks = [watched(f"keeper {name}", work) for name, work in rounds.items()]

    def wake(self) -> None:
        """There may be something to release, now or in a moment."""
        self._release.expect()
        self._news.set()

    async def close(self) -> None:
        """Stop, and let another machine have the lease. Twice is fine."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.holds:
            self._until = 0.0
            try:
                await leases.give_up(self._database, LEASE, self._holder)
            except DatabaseUnavailable:
                return  # it runs out by itself

    async def _keep_lease(self) -> None:
        while True:
            before, began = self._lease.is_set(), self._clock()
            try:
                mine = await leases.take(self._database, LEASE, self._holder, int(began * 1000), int(SPAN * 1000))
            except DatabaseUnavailable:
                mine = False
            except Exception as error:
                logs.event("failed", logging.ERROR, exc_info=error, what="the keeper's lease")
                mine = False
            if mine is not before:
                logs.event("keeper", logging.INFO, holds=mine)
            self._until = began + SPAN if mine else 0.0
            if mine:
                self._lease.set()
            else:
                self._lease.clear()
            await asyncio.sleep(RENEWAL if mine else ROUND)

    async def _forever(
        self,
        pause: float,
        work: Callable[[], Awaitable[object]],
        news: asyncio.Event | None = None,
        soon: Callable[[object], float] | None = None,
    ) -> None:
        """Work under the lease, again after a pause or at news. soon: seconds until then, from what the work returned;
        by default at once while that says there is more to do.
        """
        news = news or asyncio.Event()
        soon = soon or (lambda more: BREATH if more else pause)
        while True:
            await self._lease.wait()
            news.clear()
            seconds = pause
            try:
                if self.holds:
                    seconds = soon(await work())
            except NotifierError as error:  # of the database, the broker, this machine's copy of the merchants
                logs.event("keeper.waits", logging.WARNING, why=str(error))
            except Exception as error:
                logs.event("failed", logging.ERROR, exc_info=error, what="a round of the keeper")
            await _either(news, seconds)

    async def _count(self) -> None:
        self.held = await holding.count(self._database)


async def _either(news: asyncio.Event, seconds: float) -> None:
    """Return at news, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return
