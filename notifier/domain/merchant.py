"""Who is told: the settings of one merchant, as a tier process needs them for one attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from notifier.domain.acknowledgement import AckRule
from notifier.domain.ladder import Ladder
from notifier.domain.signature import Secret


class Standing(StrEnum):
    """Whether a merchant may be called."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Merchant:
    """url: the registered endpoint, used where a notification names none. secrets: active ones, newest first."""

    id: str
    url: str | None = None
    secrets: tuple[Secret, ...] = ()
    ack: AckRule = field(default_factory=AckRule)
    ladder: Ladder | None = None
    standing: Standing = Standing.ENABLED
    why: str = ""
