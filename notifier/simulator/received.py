"""What a simulated merchant saw of one request, and what it answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class SignatureState(StrEnum):
    """What the merchant found out about the signature."""

    VALID = "valid"
    INVALID = "invalid"
    UNCHECKED = "unchecked"  # it knows no secret


@dataclass(frozen=True, slots=True)
class Received:
    """One request. ts: Unix milliseconds, when its line and headers had arrived. headers: names in lower case.

    answer: the word of the script, or `401` when the signature was wrong; fault: what was wrong with it.
    status: of the answer; None when no HTTP answer was completed.
    """

    ts: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    answer: str
    status: int | None
    signature: SignatureState
    fault: str = ""

    @property
    def webhook_id(self) -> str | None:
        """The notification's id."""
        return self.headers.get("webhook-id")

    @property
    def attempt(self) -> int | None:
        """Which attempt the sender says this is, from 1."""
        stated = self.headers.get("notifier-attempt", "")
        return int(stated) if stated.isascii() and stated.isdigit() and len(stated) <= 9 else None

    @property
    def moment(self) -> str:
        """`ts` as UTC, ISO 8601 with milliseconds."""
        return datetime.fromtimestamp(self.ts / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def line(self) -> str:
        """As a line of JSON, for the log."""
        return json.dumps(
            {
                "ts": self.ts,
                "path": self.path,
                "webhook-id": self.webhook_id,
                "attempt": self.attempt,
                "bytes": len(self.body),
                "sha256": hashlib.sha256(self.body).hexdigest(),
                "answer": self.answer,
                "status": self.status,
                "signature": self.signature.value,
            }
        )
