"""Bringing this machine's copy of the registry up to date with the database: by version, or compared as a whole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from notifier import logs
from notifier.domain.merchant import Standing
from notifier.errors import DatabaseUnavailable
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.ledger.merchants import Cancellation, Row
from notifier.registry.replica import Cancelled, Kept, ReplicaWriter, Stand

#: Rows in one page of a comparison, and of what changed.
PAGE = 1000
#: Seconds between two pages of a comparison, at most; as long as the page took, if that is less.
_BREATH = 0.1

T = TypeVar("T")


class Copy:
    """The replica and how it stands to the database. clock: Unix seconds.

    lock: held by the caller of every method but `compare`, which takes it for each page, so that a change waits for a
    page and not for all of them. Disk and database each fail in their own way: sqlite3.Error for the replica,
    DatabaseUnavailable for the database.
    """

    def __init__(
        self, database: Database, replica: ReplicaWriter, clock: Callable[[], float], lock: asyncio.Lock
    ) -> None:
        self._lock = lock
        self._database = database
        self._replica = replica
        self._clock = clock
        self._stand: Stand | None = None
        self._stale_since: int | None = None
        #: How often a comparison found what no version told, or the file was made anew.
        self.repairs = 0

    @property
    def complete(self) -> bool:
        """Whether there is a whole copy."""
        return self._stand is not None

    @property
    def version(self) -> int:
        """How far it is; 0 while it is not complete."""
        return 0 if self._stand is None else self._stand.version

    @property
    def stale_since(self) -> int | None:
        """Unix ms at which it was last known to be equal, while the database does not answer."""
        return self._stale_since

    async def open(self) -> None:
        """Raises RegistryUnreadable."""
        await _in_thread(self._replica.open)
        self._stand = await _in_thread(self._replica.stand)
        self.repairs = self._stand.repairs if self._stand else 0

    async def close(self) -> None:
        """Twice is fine."""
        await _in_thread(self._replica.close)

    async def renew(self) -> None:
        """Begin an empty one. Raises RegistryUnreadable."""
        await _in_thread(self._replica.renew)
        self._stand = None
        self.repairs += 1

    def missed(self) -> bool:
        """The database did not answer; True if it is the first time since it did."""
        first = self._stale_since is None
        if first:
            self._stale_since = self._stand.confirmed_at if self._stand else self._now_ms()
        return first

    async def take(self, rows: Sequence[Row], cancelled: Sequence[Cancellation], version: int) -> None:
        """A change of our own was committed as this version. The database may be gone by now; the change is in."""
        kept, given_up = [_kept(row) for row in rows], [_cancelled(each) for each in cancelled]
        if self._stand is not None and self._stand.version == version - 1:
            stand = self._reached(version)
            await _in_thread(self._replica.apply, kept, given_up, stand)
            self._stand = stand
            return
        await _in_thread(self._replica.keep, kept, given_up)
        try:
            await self.catch_up()  # other machines changed something meanwhile
        except DatabaseUnavailable as error:
            logs.event("registry.behind", logging.WARNING, version=self.version, wanted=version, why=str(error))

    async def catch_up(self) -> bool:
        """Take over what changed since the copy's version. Returns whether a merchant is off that was changed."""
        origin, version = await merchants.stand(self._database)
        if self._stand is None or self._stand.origin != origin or self._stand.version > version:
            return await self.rebuild()
        off = False
        while self._stand.version < version:
            changes = await merchants.changed_since(self._database, self._stand.version, PAGE)
            stand = self._reached(changes.reached)
            kept = [_kept(row) for row in changes.merchants]
            given_up = [_cancelled(each) for each in changes.cancellations]
            await _in_thread(self._replica.apply, kept, given_up, stand)
            off = off or any(_off(row) for row in changes.merchants)
            self._stand = stand
            version = version if changes.more else self._stand.version
        await self._confirm()
        return off

    async def rebuild(self) -> bool:
        """Make it anew from the whole registry. Returns whether a merchant in it is off."""
        origin, version = await merchants.stand(self._database)
        cancelled = await merchants.all_cancellations(self._database, self._now_ms())
        off, after = False, -1
        repairs = self.repairs + (self._stand is not None and self._stand.origin == origin)  # an older database
        with self._replica.rebuilt() as put:
            while rows := await merchants.whole(self._database, after, PAGE):
                await _in_thread(put, [_kept(row) for row in rows])
                off, after = off or any(_off(row) for row in rows), rows[-1].version
            stand = Stand(origin, version, self._now_ms(), repairs)
            await _in_thread(self._replica.finish, [_cancelled(each) for each in cancelled], stand)
        self._stand, self._stale_since, self.repairs = stand, None, repairs
        return off

    async def compare(self) -> bool:
        """Compare everything, and make equal what is not. Returns whether a merchant is off that was not equal."""
        off, after, repairs, rows = False, -1, self.repairs, list[Row]()
        while True:
            async with self._lock:
                began = time.monotonic()
                rows = await merchants.whole(self._database, after, PAGE)
                off = await self._repair(rows, after) or off
            if not rows:
                break
            after = rows[-1].version
            await asyncio.sleep(min(_BREATH, time.monotonic() - began))  # facts and changes have half of the time
        async with self._lock:
            wanted = {_cancelled(each) for each in await merchants.all_cancellations(self._database, self._now_ms())}
            if wanted != await _in_thread(self._replica.cancellations):
                await _in_thread(self._replica.replace_cancellations, wanted)
            await self._confirm()
        if self.repairs != repairs:
            logs.event(
                "registry.repaired",
                logging.WARNING,
                hint="this machine's copy was not what the database has, although no version told so",
            )
        return off

    async def _repair(self, rows: Sequence[Row], after: int) -> bool:
        """The rows with versions over `after` up to the last of these are these. Returns as `compare` does."""
        assert self._stand is not None
        here = await _in_thread(self._replica.between, after, rows[-1].version if rows else None)
        there = [row for row in rows if here.pop(row.id, None) != _kept(row)]
        if here:  # changed by another machine meanwhile, so its version is another one; or not there at all
            there += await merchants.some(self._database, here.keys())
        gone = here.keys() - {row.id for row in there}
        if not there and not gone:
            return False
        untold = gone or any(row.version <= self._stand.version for row in there)
        stand = replace(self._stand, repairs=self.repairs + bool(untold))
        await _in_thread(self._replica.repair, [_kept(row) for row in there], gone, stand)
        self._stand, self.repairs = stand, stand.repairs
        return bool(gone) or any(_off(row) for row in there)

    async def _confirm(self) -> None:
        now_ms = self._now_ms()
        await _in_thread(self._replica.confirm, now_ms)
        assert self._stand is not None
        self._stand, self._stale_since = self._reached(self._stand.version), None

    def _reached(self, version: int) -> Stand:
        assert self._stand is not None
        return Stand(self._stand.origin, version, self._now_ms(), self.repairs)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Disk work beside the event loop. Cancelled, it is finished all the same: nobody else touches the file before."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    finally:
        if not running.done():
            await asyncio.wait([running])


def _kept(row: Row) -> Kept:
    return Kept(row.id, row.version, row.body, row.changed_at)


def _cancelled(each: Cancellation) -> Cancelled:
    return Cancelled(each.notification, each.version, each.run, each.why, each.until)


def _off(row: Row) -> bool:
    """Whether it is not to be called, or its url is gone with it."""
    return row.body is None or row.standing != Standing.ENABLED
