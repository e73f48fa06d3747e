"""Who is told: the settings of one merchant, as a tier process needs them for one attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder
from notifier.domain.signature import Secret

#: What a value is shown as that nobody may see.
MASKED = "***"


class Standing(StrEnum):
    """Whether a merchant may be called."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Merchant:
    """One merchant at one moment; what the registry keeps of it over time is a `Registration`.

    url: the registered endpoint, used where a notification names none. secrets: those that sign now, newest first.
    headers: sent beside ours, in this order; their values may be credentials, so they are never shown. concurrency:
    callbacks at once in a tier process, None for what the settings say. rate: callbacks a second, likewise. why, since,
    until: of the standing; Unix milliseconds. version: of the registry when the merchant last changed; 0 for one that
    is in none.
    """

    id: str
    url: str | None = None
    secrets: tuple[Secret, ...] = ()
    ack: AckRule = field(default_factory=AckRule)
    ladder: Ladder | None = None
    standing: Standing = Standing.ENABLED
    why: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    concurrency: int | None = None
    rate: float | None = None
    since: int | None = None
    until: int | None = None
    version: int = 0

    def __repr__(self) -> str:
        """Without the values of the headers, which may be credentials."""
        names = ", ".join(name for name, _ in self.headers)
        return f"Merchant({self.id!r}, {self.standing}, url={self.url!r}, headers=[{names}], version={self.version})"
