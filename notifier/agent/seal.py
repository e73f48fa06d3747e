"""What machines of one fleet say to each other, so that nobody else can say it: HMAC-SHA256 over every message.

The key is derived (HKDF, RFC 5869) from a signing secret and the namespace, so there is nothing more to configure, and
neither a webhook's signature nor another namespace's message can pass for one of ours. A message is signed with every
active secret and believed if one of them is known here: so secrets can be rotated machine by machine, in any order.
What is said is not encrypted: whoever reads the broker reads it, and so no secret may be in it. A merchant that is not
registered knows the settings' signing secret: it is the broker's own password that keeps it out of there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets as randomness
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from notifier.domain.signature import Secret

#: Seconds that two clocks may be apart, and that a message is believed after it was written.
FRESH = 60.0
#: Bytes of a message, sealed; larger ones are not even looked at.
LONGEST = 1024 * 1024

_DIGEST = hashlib.sha256
_PURPOSE = b"notifier control v1\0"


class Unbelieved(Exception):
    """A message is not taken. Its argument says why: garbage, forged, stale or replayed."""


class Seal:
    """Seals what this machine says and opens what others said, each message once."""

    def __init__(self, secrets: Sequence[Secret], namespace: str) -> None:
        if not secrets:
            raise ValueError("a seal needs a secret")
        self._keys = [hkdf(secret.key, _PURPOSE + namespace.encode()) for secret in secrets]
        self._seen: OrderedDict[str, float] = OrderedDict()

    def seal(self, said: Mapping[str, Any], now: float) -> bytes:
        """The message. now: Unix seconds. Raises ValueError for what is no JSON or too long."""
        fresh = {"at": round(now * 1000), "nonce": randomness.token_hex(16)}
        text = json.dumps({**said, **fresh}, allow_nan=False).encode()
        macs = ",".join(hmac.new(key, text, _DIGEST).hexdigest() for key in self._keys)
        sealed = macs.encode() + b"\n" + text
        if len(sealed) > LONGEST:
            raise ValueError(f"a message between machines of {len(sealed):,} bytes; {LONGEST:,} are allowed")
        return sealed

    def open(self, sealed: bytes, now: float) -> dict[str, Any]:
        """What was said. now: Unix seconds. Raises Unbelieved for anything but a fresh message of this fleet that was
        not opened before. The nonce is remembered only for what is genuine, so strangers cannot fill the memory.
        """
        head, line, text = sealed.partition(b"\n")
        if len(sealed) > LONGEST or not line:
            raise Unbelieved("garbage")
        self._check(head, text)
        match _read(text):
            case {"at": int(at), "nonce": str(nonce), **said}:
                self._check_fresh(nonce, at, now)
                return {str(key): value for key, value in said.items()}
            case _:
                raise Unbelieved("garbage")

    def _check(self, head: bytes, text: bytes) -> None:
        offered = head.split(b",", 16)
        expected = [hmac.new(key, text, _DIGEST).hexdigest().encode() for key in self._keys]
        if not any(hmac.compare_digest(have, want) for have in offered for want in expected):
            raise Unbelieved("forged")

    def _check_fresh(self, nonce: str, at: int, now: float) -> None:
        if abs(round(now * 1000) - at) > FRESH * 1000:
            raise Unbelieved("stale")
        while self._seen and next(iter(self._seen.values())) < now - 2 * FRESH:  # what is older would be stale
            self._seen.popitem(last=False)
        if nonce in self._seen:
            raise Unbelieved("replayed")
        self._seen[nonce] = now


def hkdf(secret: bytes, purpose: bytes, salt: bytes = b"", length: int = 32) -> bytes:
    """A key for one purpose, of at most 8,160 bytes (HKDF-SHA256, RFC 5869)."""
    pseudorandom = hmac.new(salt or bytes(_DIGEST().digest_size), secret, _DIGEST).digest()
    key, block, number = b"", b"", 1
    while len(key) < length:
        block = hmac.new(pseudorandom, block + purpose + bytes([number]), _DIGEST).digest()
        key += block
        number += 1
    return key[:length]


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
