"""A callback that was made, and the line that is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from notifier import logs
from notifier.domain import fact
from notifier.domain.decision import Decision, NextTier
from notifier.domain.ladder import Ladder
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.tier import Tier

#: The last millisecond of the year 9999, where datetime ends.
_LAST_MOMENT = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Attempt:
    """A callback that was made, and what follows from it. started: Unix seconds."""

    started: float
    outcome: Outcome
    ladder: Ladder
    decision: Decision

    def tell(self, notification: Notification, tier: Tier) -> None:
        """One line per attempt, all fields, a stable event name."""
        outcome, decision = self.outcome, self.decision
        late = notification.lateness(self.started * 1000)
        logs.event(
            "attempt",
            notification=notification.id,
            merchant=notification.merchant,
            attempt=notification.attempt,
            step=notification.step,
            of=len(self.ladder),
            run=notification.run or None,
            tier=tier.name,
            due=_moment(notification.due_at),
            started=_moment(int(self.started * 1000)),
            late_ms=None if late is None else round(late, 1),
            duration_ms=round(outcome.duration * 1000, 1),
            status=outcome.status,
            error=outcome.error,
            detail=outcome.detail or None,
            address=outcome.address,
            decision=fact.name_of(decision),
            next_tier=decision.tier.name if isinstance(decision, NextTier) else None,
            reference=notification.reference,
        )


def _moment(unix_ms: int | None) -> str | None:
    """ISO 8601 in UTC; None for none, and for what a foreign producer wrote that is no moment."""
    if unix_ms is None or unix_ms > _LAST_MOMENT:
        return None
    return logs.moment(unix_ms)
