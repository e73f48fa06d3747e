"""Standard Webhooks 1.0 signatures.

Source: https://github.com/standard-webhooks/standard-webhooks, the specification's section "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_bytes

from notifier.errors import InvalidSecret, InvalidSignature

PREFIX = "whsec_"
_VERSION = "v1"
_SECONDS = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A symmetric signing key, 24 to 64 bytes. Its representation never shows the key."""

    key: bytes

    @classmethod
    def parse(cls, text: str) -> Secret:
        """Read `whsec_<base64>`. Raises InvalidSecret; the message does not repeat the secret."""
        spelled = text.strip()
        if not spelled.startswith(PREFIX):
            raise InvalidSecret(f"a signing secret starts with {PREFIX!r}, followed by base64 of 24 to 64 bytes")
        try:
            key = base64.b64decode(spelled.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidSecret(f"what follows {PREFIX!r} in a signing secret is not valid base64") from None
        if not 24 <= len(key) <= 64:
            raise InvalidSecret(f"a signing secret holds 24 to 64 bytes; this one holds {len(key)}")
        return cls(key)

    @classmethod
    def fresh(cls) -> Secret:
        """A new random one of 32 bytes."""
        return cls(token_bytes(32))

    @property
    def text(self) -> str:
        """The secret as it is handed to a merchant."""
        return PREFIX + base64.b64encode(self.key).decode()

    def __repr__(self) -> str:
        return "Secret(whsec_***)"


def sign(secrets: Sequence[Secret], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,<base64>` per active secret, newest first, blanks between.

    timestamp: Unix seconds of this attempt. Several secrets sign together, so that they can be rotated.
    """
    signed = b"%s.%d.%s" % (webhook_id.encode(), timestamp, body)
    return " ".join(
        f"{_VERSION},{base64.b64encode(hmac.new(secret.key, signed, hashlib.sha256).digest()).decode()}"
        for secret in secrets
    )


def verify(
    secrets: Sequence[Secret],
    webhook_id: str,
    timestamp: str,
    signature: str,
    body: bytes,
    *,
    now: float,
    tolerance: float = 300,
) -> None:
    """Return if one signature in the header matches one secret; else raise InvalidSignature saying what is off.

    timestamp: the `webhook-timestamp` header as received. now: Unix seconds. tolerance: seconds to either side
    (Standard Webhooks asks receivers to refuse old timestamps, against replay).
    """
    if not _SECONDS.fullmatch(timestamp):
        raise InvalidSignature(f"webhook-timestamp {timestamp!r:.80} is not a whole number of Unix seconds")
    sent = int(timestamp)
    if abs(now - sent) > tolerance:
        side = "old" if sent < now else "in the future"
        raise InvalidSignature(
            f"webhook-timestamp {sent} is {abs(now - sent):.0f} s {side}; {tolerance:.0f} s are allowed: "
            "check the receiver's clock, or whether the message is a replayed one"
        )
    offered = [part.removeprefix("v1,") for part in signature.split() if part.startswith("v1,")]
    if not offered:
        raise InvalidSignature("webhook-signature holds no part that starts with 'v1,'")
    expected = [part.removeprefix("v1,") for part in sign(secrets, webhook_id, sent, body).split()]
    if not any(hmac.compare_digest(have.encode(), want.encode()) for have in offered for want in expected):
        raise InvalidSignature(
            "no signature matches: either the secret is another one, or the body was changed before it was "
            "verified (verify the raw bytes, before any JSON parsing), or webhook-id or webhook-timestamp was"
        )
