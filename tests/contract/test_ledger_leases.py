"""What only one agent of a fleet does: the lease on it, on both databases, and the keeper that works under it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from notifier.agent import keeping
from notifier.agent.keeping import LEASE, Keeper
from notifier.agent.release import Release
from notifier.agent.replaying import Replaying
from notifier.errors import DatabaseUnavailable
from notifier.ledger import leases
from notifier.ledger.database import Database


async def test_a_lease_is_one_holders_until_it_ends_or_is_given_up(database: Database) -> None:
    assert await leases.take(database, "l", "a", 1000, 500)
    assert await leases.take(database, "l", "a", 1200, 500), "renewed"
    assert not await leases.take(database, "l", "b", 1600, 500)
    assert not await leases.take(database, "l", "b", 1700, 500), "its last moment is the holder's"
    assert await leases.take(database, "l", "b", 1701, 500)
    assert not await leases.take(database, "l", "a", 1702, 500)
    await leases.give_up(database, "l", "a")
    assert not await leases.take(database, "l", "a", 1703, 500), "what is another's cannot be given up"
    await leases.give_up(database, "l", "b")
    assert await leases.take(database, "l", "a", 1703, 500)
    assert await leases.take(database, "another", "b", 1703, 500)


async def test_of_many_that_want_it_at_once_one_gets_it(database: Database) -> None:
    taken = await asyncio.gather(*(leases.take(database, "l", f"m{number}", 1000, 500) for number in range(20)))
    assert sum(taken) == 1


def test_every_process_is_a_holder_of_its_own() -> None:
    assert leases.fresh_holder("host") != leases.fresh_holder("host")
    assert leases.fresh_holder("host").startswith("host ")
    assert len(leases.fresh_holder("h" * 255)) <= 128, "as much as the column takes"


class Work:
    """Stands for release and replay: counts its rounds, and raises what it is told."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.rounds = 0
        self.raises: Exception | None = None
        self.expected = 0
        self._news = asyncio.Condition()

    async def round(self) -> int:
        """One, in which there is nothing to do."""
        async with self._news:
            self.rounds += 1
            self._news.notify_all()
        if self.raises is not None:
            raise self.raises
        return 0

    @property
    def pause(self) -> float:
        """As long as any."""
        return keeping.ROUND

    def expect(self) -> None:
        """Somebody says that there is something to do."""
        self.expected += 1

    async def end_overdue(self) -> int:
        """Nothing either."""
        return 0

    async def more(self) -> None:
        """Wait for a further round."""
        async with asyncio.timeout(10), self._news:
            before = self.rounds
            await self._news.wait_for(lambda: self.rounds > before)


def keeper(database: Database, work: Work, holder: str, prune: Callable[[], Awaitable[bool]]) -> Keeper:
    return Keeper(database, cast(Release, work), cast(Replaying, Work()), prune, holder)


async def nothing() -> bool:
    return False


async def test_only_the_holder_of_the_lease_works_and_another_takes_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "ROUND", 0.05)
    first, second = Work(), Work()
    one, other = keeper(database, first, "one", nothing), keeper(database, second, "other", nothing)
    one.start()
    await first.more()
    other.start()
    await first.more()
    await first.more()
    assert (one.holds, other.holds, second.rounds) == (True, False, 0)
    await one.close()
    await second.more()
    assert (one.holds, other.holds) == (False, True)
    stood = first.rounds
    await second.more()
    await second.more()
    assert first.rounds == stood
    await other.close()
    await other.close()
    assert await leases.take(database, LEASE, "a third", 1, 1), "it was given up"


async def test_a_holder_that_stood_still_for_longer_than_its_lease_does_nothing_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process does that is stopped by a signal: nothing of it has noticed when it goes on."""
    monkeypatch.setattr(keeping, "ROUND", 3600)
    work, now, asked = Work(), [1000.0], asyncio.Event()

    def clock() -> float:
        asked.set()
        return now[0]

    one = Keeper(database, cast(Release, work), cast(Replaying, Work()), nothing, "one", clock=clock)
    one.start()
    await work.more()
    assert one.holds
    now[0] += keeping.SPAN
    assert not one.holds
    assert await leases.take(database, LEASE, "other", int(now[0] * 1000) + 1, 1000)
    before = work.rounds
    asked.clear()
    one.wake()
    async with asyncio.timeout(10):
        await asked.wait()  # how late it is, before the round
    await one.close()
    assert work.rounds == before


async def test_a_round_comes_at_news_whatever_went_wrong_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "ROUND", 3600)
    work = Work()
    working = keeper(database, work, "one", nothing)
    working.start()
    await work.more()
    work.raises = DatabaseUnavailable("just now not")
    working.wake()
    await work.more()
    work.raises = ValueError("a fault of ours")
    working.wake()
    await work.more()
    work.raises = None
    working.wake()
    await work.more()
    await working.close()


async def test_pruning_goes_on_piece_by_piece_until_nothing_is_left(database: Database) -> None:
    pieces, all_of_them = 5, asyncio.Event()

    async def prune() -> bool:
        nonlocal pieces
        pieces -= 1
        if not pieces:
            all_of_them.set()
        return pieces > 0

    working = keeper(database, Work(), "one", prune)
    working.start()
    async with asyncio.timeout(10):
        await all_of_them.wait()
    await working.close()
    assert (pieces, working.held) == (0, 0)
