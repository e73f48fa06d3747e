"""Giving up a notification that is not finished: no attempt of it starts any more, and its end is in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from notifier import logs
from notifier.agent.marking import Marker
from notifier.agent.registrar import Registrar
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant
from notifier.errors import Conflict, InvalidLadder, NotFound
from notifier.ledger import holding
from notifier.ledger.database import Database
from notifier.ledger.holding import Stored
from notifier.ledger.standing import is_finished

REASON = "cancelled"
#: Beyond the ladder's total, milliseconds, for which a tier process refuses it: pauses and outages may keep it longer
#: in the broker than its ladder says.
AFTERWARDS_MS = 30 * 24 * 3600 * 1000


class Cancelling:
    """lookup: the merchant as it is known now. clock: Unix seconds."""

    def __init__(
        self,
        database: Database,
        registrar: Registrar,
        marker: Marker,
        lookup: Callable[[str], Merchant | None],
        default_ladder: Ladder,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._registrar = registrar
        self._marker = marker
        self._lookup = lookup
        self._default_ladder = default_ladder
        self._clock = clock

    async def cancel(self, notification: str, who: str, why: str | None) -> dict[str, Any]:
        """Cancel it; returns {"id", "status", "live"}: once that is said, no attempt of it starts in those processes.

        Raises NotFound, Conflict for what is finished, DatabaseUnavailable; then nothing has changed.
        """
        stored = await holding.stored(self._database, notification)
        if stored is None:
            raise NotFound(f"the ledger knows no notification {notification!r:.140}")
        if is_finished(stored.stands):
            raise Conflict(f"{notification} is finished: it is {stored.stands}")
        # It may be held without the ledger knowing yet, or be released in this very moment and be held again in the run
        # of that release: so the next two runs are given up as well, and it ends in the last of them; within a run in
        # which it is held it would stay held.
        run = stored.run + 2
        now_ms = int(self._clock() * 1000)
        live = await self._registrar.cancel(notification, run, self._said(who, why), now_ms + self._longest(stored))
        # from here on it is cancelled, whatever the database does
        await self._marker.mark([self._stopped(stored, run, now_ms, who, why)])
        logs.event("cancelled", notification=notification, merchant=stored.merchant, who=who, why=why)
        return {"id": notification, "status": "stopped", "live": live}

    def _stopped(self, stored: Stored, run: int, now_ms: int, who: str, why: str | None) -> Fact:
        body = {
            "merchant": stored.merchant,
            "tier": stored.tier,
            "reason": REASON,
            "detail": self._said(who, why),
            "disable": False,
            "who": who,
        }
        return Fact(Kind.STOPPED, stored.id, run, now_ms, body)

    def _longest(self, stored: Stored) -> int:
        """Milliseconds from now after which nothing of it can be on its way."""
        try:
            own = Ladder.parse(stored.ladder) if stored.ladder else None
        except InvalidLadder:
            own = None
        merchant = self._lookup(stored.merchant)
        ladder = own or (merchant.ladder if merchant else None) or self._default_ladder
        return ladder.total * 1000 + AFTERWARDS_MS

    @staticmethod
    def _said(who: str, why: str | None) -> str:
        return f"cancelled by {who}" + (f": {why}" if why else "")
