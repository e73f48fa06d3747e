"""What the registry keeps of one merchant over time, and what each operation makes of it. Times: Unix milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder
from notifier.domain.merchant import Merchant, Standing
from notifier.domain.signature import Secret
from notifier.errors import Conflict, NotFound

#: How long a replaced secret goes on signing if nobody says otherwise, seconds: Standard Webhooks' example of a day.
GRACE = 24 * 3600.0
#: The longest one.
LONGEST_GRACE = 30 * 24 * 3600.0
#: Secrets that sign together: each makes the `webhook-signature` header longer, and every attempt dearer.
MOST_SECRETS = 5


@dataclass(frozen=True, slots=True)
class Off:
    """One reason for which a merchant is not called. until: it ends by itself then; None: when it is taken back."""

    why: str
    since: int
    until: int | None = None
    who: str = ""


@dataclass(frozen=True, slots=True)
class Former:
    """A secret that was replaced and goes on signing for a while."""

    secret: Secret
    until: int


@dataclass(frozen=True, slots=True)
class Registration:
    """One merchant in the registry.

    secret: signs; None for a merchant that was only blocked and never added: those sign with the service's. former:
    newest first. ack: None means the service's rule. disabled and blocked are apart, so that the end of a block does
    not enable what a 410 has disabled.
    """

    id: str
    url: str | None = None
    secret: Secret | None = None
    former: tuple[Former, ...] = ()
    ack: AckRule | None = None
    ladder: Ladder | None = None
    headers: tuple[tuple[str, str], ...] = ()
    concurrency: int | None = None
    rate: float | None = None
    disabled: Off | None = None
    blocked: Off | None = None
    version: int = 0
    changed_at: int = 0

    def __repr__(self) -> str:
        """Without the values of the headers, which may be credentials."""
        return f"Registration({self.id!r}, url={self.url!r}, version={self.version})"

    @property
    def added(self) -> bool:
        """Whether somebody added it; else it is here only because it was blocked."""
        return self.secret is not None

    def at(self, now_ms: int, ack: AckRule, secrets: tuple[Secret, ...]) -> Merchant:
        """The merchant at this moment. ack, secrets: the service's, for one that has none of its own."""
        standing, off = self.standing(now_ms)
        return Merchant(
            self.id,
            url=self.url,
            secrets=self.signing(now_ms) or secrets,
            ack=self.ack or ack,
            ladder=self.ladder,
            standing=standing,
            why=off.why if off else "",
            headers=self.headers,
            concurrency=self.concurrency,
            rate=self.rate,
            since=off.since if off else None,
            until=off.until if off else None,
            version=self.version,
        )

    def standing(self, now_ms: int) -> tuple[Standing, Off | None]:
        """Whether it may be called at this moment, and why not."""
        if self.disabled is not None:
            return Standing.DISABLED, self.disabled
        if self.blocked is not None and (self.blocked.until is None or now_ms < self.blocked.until):
            return Standing.BLOCKED, self.blocked
        return Standing.ENABLED, None

    def signing(self, now_ms: int) -> tuple[Secret, ...]:
        """The secrets that sign at this moment, newest first."""
        if self.secret is None:
            return ()
        return (self.secret, *(former.secret for former in self._in_grace(now_ms)))

    def _in_grace(self, now_ms: int) -> tuple[Former, ...]:
        return tuple(former for former in self.former if now_ms < former.until)

    # What the operations make of it. Each returns the new registration; the version is given when it is kept.

    def set(self, fields: Mapping[str, Any]) -> Registration:
        """With these fields of a statement (`domain.statement.Statement.fields`)."""
        return replace(self, **fields)

    def rotated(self, secret: Secret, grace: float, now_ms: int) -> Registration:
        """Signing with a new secret, for `grace` seconds also with the old ones. Raises Conflict for one too many."""
        assert self.secret is not None
        if secret in self.signing(now_ms):
            raise Conflict(f"merchant {self.id} signs with this secret already: give another one, or none")
        until = now_ms + round(grace * 1000)
        # those whose end was set earlier keep it, unless this grace is shorter: a grace of 0 leaves the new one alone
        kept = [Former(former.secret, min(former.until, until)) for former in self._in_grace(now_ms)]
        former = tuple(each for each in (Former(self.secret, until), *kept) if now_ms < each.until)
        if len(former) >= MOST_SECRETS:
            raise Conflict(
                f"merchant {self.id} would sign with {len(former) + 1} secrets; at most {MOST_SECRETS} are possible: "
                "wait until the grace of an old one is over, or rotate without a grace, which ends all old ones"
            )
        return replace(self, secret=secret, former=former)

    def switched_off(self, standing: Standing, off: Off) -> Registration:
        """Disabled or blocked for this reason; a newer one takes the place of an older one of the same kind."""
        return replace(self, disabled=off) if standing is Standing.DISABLED else replace(self, blocked=off)

    def switched_on(self, standing: Standing) -> Registration | None:
        """No longer disabled or blocked; None when nothing is left that is worth keeping."""
        if standing is Standing.DISABLED:
            return replace(self, disabled=None)
        return replace(self, blocked=None) if self.added else None

    def settled(self, now_ms: int) -> Registration:
        """Without what is over: secrets after their grace, blocks after their end."""
        _, off = self.standing(now_ms)
        over = self.blocked is not None and self.disabled is None and off is None
        return replace(self, former=self._in_grace(now_ms), blocked=None if over else self.blocked, changed_at=now_ms)


def known(registration: Registration | None, merchant: str) -> Registration:
    """The registration of a merchant that was added. Raises NotFound."""
    if registration is None or not registration.added:
        raise NotFound(f"there is no merchant {merchant!r} in the registry: notifier merchants add {merchant} --url …")
    return registration
