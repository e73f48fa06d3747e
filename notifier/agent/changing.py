"""What is wanted of one merchant, checked, and what it makes of a registration. Nothing here is written or sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from notifier.domain.merchant import Standing
from notifier.domain.notification import check_known_merchant, check_merchant, refuse_own
from notifier.domain.registration import GRACE, LONGEST_GRACE, Off, Registration, known
from notifier.domain.signature import Secret
from notifier.domain.statement import Statement, stated
from notifier.errors import Conflict, InvalidInput
from notifier.settings import Settings

OPS = ("add", "set", "remove", "rotate", "enable", "disable", "block", "unblock")
#: Those with fields.
_STATED = ("add", "set", "rotate")
#: Characters of a reason; it is told with every notification that is held for it.
MOST_WHY = 200
#: A block without an end is one that is taken back; a longer one with an end is a slip, seconds.
LONGEST_BLOCK = 366 * 86_400.0


class Wanted(Protocol):
    """A change that can be made of what there is at the moment of the transaction."""

    @property
    def switches_off(self) -> bool:
        """Whether callbacks may have to end for it: a process that does not answer is restarted."""

    def made_of(self, before: Registration | None, now_ms: int) -> Registration | None:
        """What there is afterwards; None: no such merchant. Raises NotFound, Conflict, InvalidInput."""


@dataclass(frozen=True, slots=True)
class Change:
    """An operation that somebody wants. secret: the new one, of add and rotate. seconds: of a block, or of a grace."""

    op: str
    merchant: str
    statement: Statement
    who: str
    why: str
    seconds: float | None
    secret: Secret | None = field(default=None, repr=False)

    @classmethod
    def checked(
        cls,
        op: str,
        merchant: str,
        fields: Mapping[str, Any],
        who: str,
        why: str | None,
        seconds: float | None,
        settings: Settings,
    ) -> Change:
        """All that can be judged without the registration. Raises InvalidInput (InvalidMerchant for fields)."""
        if op not in OPS:
            raise InvalidInput(f"{op!r:.40} cannot be done with a merchant; possible are {', '.join(OPS)}")
        check = check_merchant if op == "add" else check_known_merchant
        check(merchant)
        if op != "remove":
            refuse_own(merchant)
        statement = _statement(op, fields, settings)
        secret = (statement.secret or Secret.fresh()) if op in ("add", "rotate") else None
        return cls(op, merchant, statement, who[:MOST_WHY], _reason(why), _span(op, seconds), secret)

    @property
    def switches_off(self) -> bool:
        """Disabling, blocking; and removing, since the url goes with it."""
        return self.op in ("disable", "block", "remove")

    def made_of(self, before: Registration | None, now_ms: int) -> Registration | None:
        """See `Wanted`."""
        after = self._made_of(before, now_ms)
        return None if after is None else after.settled(now_ms)

    def _made_of(self, before: Registration | None, now_ms: int) -> Registration | None:
        match self.op:
            case "add":
                return self._added(before)
            case "set":
                return self._stated(known(before, self.merchant))
            case "remove":
                known(before, self.merchant)
                return None
            case "rotate":
                assert self.secret is not None
                grace = GRACE if self.seconds is None else self.seconds
                return known(before, self.merchant).rotated(self.secret, grace, now_ms)
            case "enable":
                return known(before, self.merchant).switched_on(Standing.DISABLED)
            case "disable":
                off = Off(self.why or "disabled by an operator", now_ms, who=self.who)
                return known(before, self.merchant).switched_off(Standing.DISABLED, off)
            case "block":  # also one that nobody added: its notifications bring their own url
                until = None if self.seconds is None else now_ms + round(self.seconds * 1000)
                off = Off(self.why or "blocked by an operator", now_ms, until, self.who)
                return (before or Registration(self.merchant)).switched_off(Standing.BLOCKED, off)
            case _:
                return self._unblocked(before)

    def _added(self, before: Registration | None) -> Registration:
        if before is not None and before.added:
            raise Conflict(
                f"merchant {self.merchant} is in the registry already: change it with `set`, its secret with `rotate`"
            )
        fresh = before or Registration(self.merchant)  # a block of it goes on
        return self._stated(fresh.set({"secret": self.secret}))

    def _stated(self, registration: Registration) -> Registration:
        headers = self.statement.headers_over(registration.headers)
        return registration.set({**self.statement.fields, "headers": headers})

    def _unblocked(self, before: Registration | None) -> Registration | None:
        return (before or known(before, self.merchant)).switched_on(Standing.BLOCKED)


@dataclass(frozen=True, slots=True)
class Gone:
    """The endpoint of a merchant answered at a moment that it is gone for good. url: None means the registered one."""

    merchant: str
    url: str | None
    at_ms: int
    why: str

    @property
    def switches_off(self) -> bool:
        """Always."""
        return True

    def made_of(self, before: Registration | None, now_ms: int) -> Registration | None:
        """See `Wanted`. Raises Conflict if that is not so any more."""
        if before is None or not before.added:
            raise Conflict("it is not in the registry any more")
        if before.url is None or (self.url is not None and self.url != before.url):
            raise Conflict("its registered url is another one by now")
        if before.disabled is not None:
            raise Conflict("it is disabled already")
        if before.changed_at > self.at_ms:
            raise Conflict("it was changed after that answer")
        return before.switched_off(Standing.DISABLED, Off(self.why[:MOST_WHY], now_ms, who="notifier")).settled(now_ms)


def _statement(op: str, fields: Mapping[str, Any], settings: Settings) -> Statement:
    if op not in _STATED:
        if fields:
            raise InvalidInput(f"`{op}` takes no fields, not {', '.join(map(str, fields))[:100]}")
        return Statement({})
    if op == "rotate" and fields.keys() - {"secret"}:
        raise InvalidInput("`rotate` takes nothing but a secret; other fields are changed with `set`")
    if op == "set" and not fields:
        raise InvalidInput("`set` needs at least one field")
    return stated(fields, settings.named_ladders, settings.tiers, settings.egress.urls, secret=op != "set")


def _reason(why: str | None) -> str:
    if why is None:
        return ""
    if not isinstance(why, str) or len(why) > MOST_WHY or (why and not why.isprintable()):
        raise InvalidInput(f"a reason is one line of at most {MOST_WHY} characters")
    return why.strip()


def _span(op: str, seconds: Any) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise InvalidInput(f"{seconds!r:.40} is not a number of seconds")
    match op:
        case "block" if 0 < seconds <= LONGEST_BLOCK:
            return float(seconds)
        case "rotate" if 0 <= seconds <= LONGEST_GRACE:
            return float(seconds)
        case "block":
            raise InvalidInput(
                f"a block lasts more than 0 and at most {LONGEST_BLOCK:.0f} seconds; without, until unblock"
            )
        case "rotate":
            raise InvalidInput(f"the grace of an old secret is 0 to {LONGEST_GRACE:.0f} seconds")
    raise InvalidInput(f"`{op}` has no duration; block and rotate have one")
