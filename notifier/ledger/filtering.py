"""Which notifications are meant: the same words for listing, counting, exporting and sending again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, literal_column, or_

from notifier.errors import InvalidInput
from notifier.ledger.fact_rows import clean
from notifier.ledger.schema import notifications
from notifier.ledger.standing import STATUSES

_MOST = {"merchant": 128, "reference": 256, "tier": 32, "error": 32, "reason": 64}
_SECOND = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is stated must match; an empty filter matches everything.

    status: any of these, where held counts for how the newest run stands. since, until: accepted from then on, and
    before then, Unix milliseconds. tier: where it waits, or was last. error: class of its last attempt. reason: why it
    is held or stopped.
    """

    status: frozenset[str] = frozenset()
    merchant: str | None = None
    reference: str | None = None
    tier: str | None = None
    since: int | None = None
    until: int | None = None
    error: str | None = None
    reason: str | None = None

    @classmethod
    def parse(cls, stated: Mapping[str, Any]) -> Filter:
        """Read what people and programs state. status: one, several with commas, or a list. since, until: ISO 8601 (UTC
        where no zone is named) or Unix milliseconds. None states nothing.

        Raises InvalidInput that names what is wrong.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in stated if name not in known]
        if unknown:
            raise InvalidInput(f"{unknown[0]!r:.60} is no part of a filter; possible are {', '.join(known)}")
        given = {name: value for name, value in stated.items() if value is not None}
        texts: dict[str, Any] = {name: _text(name, given[name], most) for name, most in _MOST.items() if name in given}
        moments: dict[str, Any] = {name: _moment(name, given[name]) for name in ("since", "until") if name in given}
        return cls(status=_statuses(given.get("status", ())), **texts, **moments)

    def to_send(self) -> Filter:
        """As it counts for sending again: what was delivered is not meant unless `status` says so.

        Raises InvalidInput for an empty filter, which would send the whole ledger again.
        """
        if self == Filter():
            raise InvalidInput(
                "an empty filter would send everything again; state at least one of "
                + ", ".join(field.name for field in fields(Filter))
            )
        return self if self.status else replace(self, status=frozenset(STATUSES) - {"completed"})

    def by_index(self) -> list[Filter]:
        """Filters that match the same together, each by one index: of a merchant that has everything delivered, several
        statuses at once would be looked for in all that it ever had.
        """
        if self.merchant is None or len(self.status) < 2:
            return [self]
        return [replace(self, status=frozenset({status})) for status in sorted(self.status)]

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL, to be joined by AND."""
        columns = notifications.c
        equal = {
            columns.merchant: self.merchant,
            columns.reference: self.reference,
            columns.tier: self.tier,
            columns.last_error: self.error,
        }
        found: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
        if self.status:
            found.append(_standing_so(self.status))
        if self.reason is not None:
            held = and_(columns.stands == "held", columns.stands_why == self.reason)
            found.append(or_(columns.reason == self.reason, held))
        if self.since is not None:
            found.append(columns.accepted_at >= self.since)
        if self.until is not None:
            found.append(columns.accepted_at < self.until)
        return found


def _standing_so(status: frozenset[str]) -> ColumnElement[bool]:
    """Held is also what was delivered once, was sent again and is held now."""
    columns, others = notifications.c, sorted(status - {"held"})
    parts = [columns.stands == literal_column("'held'")] if "held" in status else []
    return or_(*parts, *([columns.status.in_(others)] if others else []))


def _statuses(stated: object) -> frozenset[str]:
    parts = stated.split(",") if isinstance(stated, str) else stated
    if not isinstance(parts, Sequence | frozenset | set) or not all(isinstance(part, str) for part in parts):
        raise InvalidInput(f"status is one of {', '.join(STATUSES)}, or several with commas; it is {stated!r:.80}")
    named = {part.strip() for part in parts} - {""}
    for status in sorted(named - set(STATUSES)):
        raise InvalidInput(f"{status!r:.80} is no status; possible are {', '.join(STATUSES)}")
    return frozenset(named)


def _text(name: str, value: object, most: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise InvalidInput(f"{name} is a text of 1 to {most} characters; it is {value!r:.80}")
    return clean(value)


def _moment(name: str, value: object) -> int:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return int(moment.timestamp() * _SECOND)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
            return value
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(f"{name} is a moment such as 2026-11-21T10:00:00Z; it is {value!r:.80}")
