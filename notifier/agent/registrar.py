"""The registrar: the only writer of the registry.

A change: the ledger's database (one transaction, with the version), then this machine's copy, then this machine's
processes and the other machines at once, then the answer, which says who has it. It is never taken back because
somebody did not answer: the answer names them, and they get it with the next check.

The copy is brought up to date in three ways together: pushed (a change here, or told by another machine), checked
every 10 s by version, and compared as a whole every 10 min.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from notifier import logs
from notifier.agent import changing
from notifier.agent.copying import Copy
from notifier.agent.watched import watched
from notifier.domain.merchant import Standing
from notifier.domain.registration import Registration
from notifier.errors import Conflict, DatabaseUnavailable, NotifierError, RegistryUnreadable
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.ledger.merchants import Cancellation, Row
from notifier.registry import form
from notifier.registry.replica import ReplicaWriter
from notifier.settings import Settings

#: Seconds between two looks at the version, and between two comparisons of everything.
CHECK, COMPARE = 10.0, 600.0
#: Seconds for the database to be there at the start, before the processes are let go with the copy as it is.
PATIENCE = 5.0
#: Seconds between two looks while there is no copy, and everybody waits for it.
URGENT = 1.0
#: The own slot, which does not call merchants: it does not count as having a change.
OWN_SLOT = "agent"

#: Tells this machine's processes: the value of the key `registry`, and whether who does not answer is restarted.
Push = Callable[[Mapping[str, Any], bool], Awaitable[Sequence[Mapping[str, Any]]]]
#: Tells the other machines: a version, and likewise. Returns {"machine", "live", "of"} or {"machine", "error"} of each.
Tell = Callable[[int, bool], Awaitable[Sequence[Mapping[str, Any]]]]


class Registrar:
    """Keeps the registry of this machine, and changes that of the fleet.

    push, fleet: see there; fleet None: there are no other machines. clock: Unix seconds.

    changed: set after every change of the copy; whoever waits for it clears it. start and close once each.
    """

    def __init__(
        self,
        database: Database,
        replica: ReplicaWriter,
        push: Push,
        fleet: Tell | None,
        clock: Callable[[], float],
        settings: Settings,
    ) -> None:
        self.changed = asyncio.Event()
        self._database = database
        self._one_at_a_time = asyncio.Lock()
        self._copy = Copy(database, replica, clock, self._one_at_a_time)
        self._push = push
        self._fleet = fleet
        self._clock = clock
        self._settings = settings
        self._keeping: asyncio.Task[None] | None = None
        self._told: Mapping[str, Any] | None = None

    @property
    def version(self) -> int:
        """Of the copy; 0 while there is none."""
        return self._copy.version

    @property
    def stale_since(self) -> int | None:
        """Unix ms at which the copy was last known to be equal to the database; None while that answers."""
        return self._copy.stale_since

    async def start(self) -> None:
        """Bring the copy up to date and tell the processes of this machine that they can begin.

        With the database down that is the copy as it is, after some seconds; if there is none, they are told as soon as
        there is one. Raises RegistryUnreadable if there can be no copy: its directory cannot be written.
        """
        await self._copy.open()
        first = asyncio.create_task(self.refresh(), name="registrar's first look")
        self._keeping = watched("registrar", partial(self._keep, first))
        await asyncio.wait([first], timeout=PATIENCE)
        if self._told is None:
            self._go_stale(f"the database has not answered within {PATIENCE:g} s")
            await self._say(critical=False)

    async def close(self) -> None:
        """Twice is fine. A change under way is finished first, as far as the database goes."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        async with self._one_at_a_time:
            await self._copy.close()

    async def change(
        self,
        op: str,
        merchant: str,
        fields: Mapping[str, Any],
        who: str,
        why: str | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Change one merchant everywhere. op: add, set, remove, rotate, enable, disable, block, unblock.

        fields: as stated by people, for add and set; `secret` also for rotate. why: for disable and block. seconds: how
        long a block lasts, or the old secret's grace. Returns {"merchant": without secrets; what it was for `remove`,
        "live": see `_live`}, and "secret" for add and rotate: the only time it is shown.

        Raises InvalidInput (InvalidMerchant for fields), NotFound, Conflict, DatabaseUnavailable; then nothing changed.
        """
        wanted = changing.Change.checked(op, merchant, fields, who, why, seconds, self._settings)
        live, row, before = await self._change(merchant, wanted)
        logs.event(
            "merchant.changed", merchant=merchant, op=op, who=who, why=why, version=row.version,
            fields=sorted(fields) or None, live=f"{live['live']} of {live['of']}",
            missing=", ".join(live["missing"]) or None,
        )  # fmt: skip
        after = _registration(row) or (before if op == "remove" else None) or Registration(merchant)
        answer: dict[str, Any] = {"merchant": form.shown(after, self._now_ms()), "live": live}
        if wanted.secret is not None:
            answer["secret"] = wanted.secret.text
        return answer

    async def gone(self, merchant: str, url: str | None, at_ms: int, why: str) -> bool:
        """Disable a merchant whose registered endpoint answered at that moment that it is gone for good.

        Not if its url is another one by now, or somebody changed its standing since: False then. url: that was called;
        None: the registered one. Raises DatabaseUnavailable.
        """
        wanted = changing.Gone(merchant, url, at_ms, why)
        try:
            live, row, _ = await self._change(merchant, wanted)
        except Conflict as reason:
            logs.event("merchant.gone.ignored", merchant=merchant, why=str(reason))
            return False
        logs.event(
            "merchant.disabled", logging.WARNING, merchant=merchant, why=why, version=row.version,
            live=f"{live['live']} of {live['of']}",
        )  # fmt: skip
        return True

    async def cancel(self, notification: str, run: int, why: str | None, until: int) -> dict[str, Any]:
        """Let no attempt of this notification start any more, up to and with this run. Returns who has it: see `_live`.

        until: Unix ms; nothing of it can be on its way after that. Raises DatabaseUnavailable; then nothing changed.
        """
        async with self._one_at_a_time:
            kept = await merchants.cancel(self._database, notification, run, why, until)
            await self._take([], [kept], kept.version)
        return await self._spread(kept.version, critical=False)

    async def refresh(self, forced: bool = False) -> None:
        """Bring the copy up to date by version; forced: by comparing everything. Raises DatabaseUnavailable."""
        async with self._one_at_a_time:
            off = await self._catch_up()
        if forced:
            off = await self._compared() or off
        await self._say_news(critical=off)

    async def follow(self, version: int, critical: bool = False) -> dict[str, Any]:
        """Another machine changed the registry: take that over, and say who on this one has it (see `_live`).

        Raises DatabaseUnavailable, and RegistryUnreadable if that version is not there.
        """
        async with self._one_at_a_time:
            if self._copy.version < version:
                await self._catch_up()
            if self._copy.version < version:
                raise RegistryUnreadable(
                    f"the database of machine {self._settings.machine} is at version {self._copy.version} of the "
                    f"registry, not {version}: see that all machines name the same NOTIFIER_DATABASE_URL"
                )
        self.changed.set()
        return self._live(version, await self._say(critical), [])

    async def _change(self, merchant: str, wanted: changing.Wanted) -> tuple[dict[str, Any], Row, Registration | None]:
        """The whole way of a change; returns who has it, the row as it is now, and what there was before."""
        before: list[Registration | None] = []

        def alter(row: Row | None) -> Row:
            before[:] = [_registration(row)]
            now_ms = self._now_ms()
            return _row(merchant, wanted.made_of(before[0], now_ms), now_ms)

        async with self._one_at_a_time:
            row = await merchants.change(self._database, merchant, alter)
            await self._take([row], [], row.version)
        # without the lock: two machines that change something at the same moment wait for each other's answer here
        return await self._spread(row.version, critical=wanted.switches_off), row, before[0]

    async def _take(self, rows: Sequence[Row], cancelled: Sequence[Cancellation], version: int) -> None:
        """A change that is committed is not lost because this machine's disk is full: the answer says who lacks it."""
        try:
            await self._copy.take(rows, cancelled, version)
        except sqlite3.Error as error:
            logs.event("registry.failed", logging.ERROR, version=version, why=f"this machine's copy: {error}")

    async def _spread(self, version: int, *, critical: bool) -> dict[str, Any]:
        """To the processes here and to the other machines, at the same time."""
        self.changed.set()
        others = asyncio.create_task(self._tell_others(version, critical))
        slots = await self._say(critical)
        return self._live(version, slots, await others)

    async def _tell_others(self, version: int, critical: bool) -> Sequence[Mapping[str, Any]]:
        if self._fleet is None:
            return []
        try:
            return await self._fleet(version, critical)
        except NotifierError as error:  # the change stands, and the others find it with their next check
            return [{"machine": "the other machines", "error": str(error)}]

    async def _say(self, critical: bool) -> Sequence[Mapping[str, Any]]:
        """Tell this machine's processes how far the registry is. Silent while there is no complete copy."""
        if not self._copy.complete:
            return []
        word = self._word()
        try:
            told = await self._push(word, critical)
        except NotifierError as error:
            logs.event("registry.untold", logging.WARNING, version=self.version, why=str(error))
            return [{"slot": "this machine", "result": "error", "error": str(error)}]
        self._told = word
        return told

    def _word(self) -> Mapping[str, Any]:
        """What the key `registry` says; a count of repairs, so that a comparison that found something is told, too."""
        since = self.stale_since
        return {
            "version": self.version,
            "stale_since": None if since is None else logs.moment(since),
            "repairs": self._copy.repairs,
        }

    def _live(
        self, version: int, slots: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Who has a change: live of so many processes of this machine, slot by slot, the other machines that have it,
        and by name what does not: a machine, or a slot of this one.

        A slot without a process counts as having it: its next process knows before it does anything.
        """
        concerned = [slot for slot in slots if slot["slot"] != OWN_SLOT]
        late = [slot["slot"] for slot in concerned if not _has_it(slot)]
        behind = [] if self.version >= version else [self._settings.machine]
        return {
            "live": 0 if behind else len(concerned) - len(late),
            "of": len(concerned),
            "slots": [dict(slot) for slot in concerned],
            "machines": [dict(each) for each in others if "live" in each],
            "missing": behind + late + [str(each["machine"]) for each in others if "live" not in each],
        }

    async def _keep(self, first: asyncio.Task[None]) -> None:
        """Look again and again."""
        await self._looked(first)
        compared = -COMPARE  # the first time soon: the copy may not be what its version says
        while True:
            await asyncio.sleep(CHECK if self._copy.complete else URGENT)
            forced = time.monotonic() - compared >= COMPARE
            if await self._looked(self.refresh(forced)) and forced:
                compared = time.monotonic()

    async def _looked(self, look: Awaitable[None]) -> bool:
        """Whether that succeeded. This goes on, whatever comes of it."""
        try:
            await look
        except DatabaseUnavailable as error:
            self._go_stale(str(error))
            await self._say_news(critical=False)
            return False
        except Exception as error:
            logs.event("registry.failed", logging.ERROR, exc_info=error)
            return False
        return True

    def _go_stale(self, why: str) -> None:
        if self._copy.missed():
            logs.event("registry.stale", logging.WARNING, version=self.version, why=why)

    async def _catch_up(self) -> bool:
        """Whether a merchant is off that was changed. The caller holds the lock."""
        try:
            return await self._copy.catch_up()
        except sqlite3.DatabaseError as error:
            return await self._made_anew(error)

    async def _compared(self) -> bool:
        """Whether a merchant is off that was not what the database has."""
        await merchants.forget_cancellations(self._database, self._now_ms())
        try:
            return await self._copy.compare()
        except sqlite3.DatabaseError as error:
            async with self._one_at_a_time:
                return await self._made_anew(error)

    async def _made_anew(self, error: sqlite3.DatabaseError) -> bool:
        """A damaged copy. What is wrong with the disk (no space, no right) is raised: the file may be good."""
        if isinstance(error, sqlite3.OperationalError):
            raise error
        logs.event("registry.damaged", logging.ERROR, why=str(error), hint="this machine's copy is made anew")
        await self._copy.renew()
        return await self._copy.rebuild()

    async def _say_news(self, critical: bool) -> None:
        if self._word() != self._told:
            self.changed.set()
            await self._say(critical)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _has_it(slot: Mapping[str, Any]) -> bool:
    return slot["result"] in ("applied", "gone") or bool(slot.get("restarted"))


def _registration(row: Row | None) -> Registration | None:
    if row is None or row.body is None:
        return None
    return form.read(row.id, row.body, row.version, row.changed_at)


def _row(merchant: str, registration: Registration | None, now_ms: int) -> Row:
    """As it is kept; of one that was removed only that."""
    if registration is None:
        return Row(merchant, 0, None, str(Standing.DISABLED), None, None, now_ms)
    standing, off = registration.standing(now_ms)
    body = form.written(registration)
    return Row(merchant, 0, body, str(standing), off.until if off else None, registration.url, now_ms)
