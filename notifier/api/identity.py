"""Who sends a request: by a bearer token, by the dashboard's session cookie, or anyone at all on a loopback address
for which no token is set.

A session is no secret that is kept: the cookie names the token it was opened with and carries a seal over that, keyed
by the token's digest and the signing secret. So it ends with its token, outlives a restart of this process, and does
not give the token away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from notifier.api.door import LedgerDoor
from notifier.errors import DatabaseUnavailable
from notifier.ledger import tokens
from notifier.ledger.tokens import Role, Token, digest_of
from notifier.settings import Settings

COOKIE = "notifier_session"
#: Seconds that a session lasts.
SESSION = 12 * 3600
#: Seconds after which a token is looked up again: so long a removed one may still be taken.
FRESH = 5.0
#: Seconds that a token is taken without the database, once it was known: an outage of it must not stop producers. It
#: can be removed only in that database, so what it says is not older than the outage.
STALE = 12 * 3600.0
#: Tokens remembered, those included that there are not.
MOST_REMEMBERED = 1000

#: The id of the token of the settings, and of whoever needs none.
SETTINGS, LOCAL = "settings", "local"

#: As `ledger.tokens` makes them. Anything else is refused without a look: strangers must not keep the database busy.
_TOKEN = re.compile(r"ntk_[0-9a-f]{48}")
_COOKIE = re.compile(r"(?P<id>[a-z0-9_]{1,64})\.(?P<until>[0-9]{1,12})\.(?P<seal>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever sends a request. id: of the token; it stands in what is logged and kept. merchant: of role merchant."""

    id: str
    role: Role
    merchant: str | None = None

    def __str__(self) -> str:
        return {SETTINGS: "the settings' token", LOCAL: "an operator"}.get(self.id, f"token {self.id}")


class Identities:
    """Judges tokens and session cookies. clock: Unix seconds."""

    def __init__(self, settings: Settings, door: LedgerDoor, clock: Callable[[], float] = time.time) -> None:
        configured = settings.api.token
        self._configured = None if configured is None else digest_of(configured.get_secret_value())
        secret = settings.secrets[0].key if settings.secrets else b""
        self._key = hmac.digest(secret, f"notifier session {settings.namespace}".encode(), "sha256")
        self._door = door
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, Token | None]] = OrderedDict()

    @property
    def needed(self) -> bool:
        """Whether a request without a token is refused."""
        return self._configured is not None

    def anyone(self) -> Who:
        """Whoever needs no token."""
        return Who(LOCAL, "write")

    async def of_token(self, token: str) -> Who | None:
        """None for a token that is not valid. Raises DatabaseUnavailable when that cannot be known now."""
        digest = digest_of(token)
        if self._configured is not None and hmac.compare_digest(digest, self._configured):
            return Who(SETTINGS, "write")
        if not _TOKEN.fullmatch(token):
            return None
        found = await self._known(digest=digest)
        return None if found is None else Who(found.id, found.role, found.merchant)

    async def of_cookie(self, value: str) -> Who | None:
        """None for a session that is over or was never opened. Raises DatabaseUnavailable."""
        found = _COOKIE.fullmatch(value)
        if found is None or int(found["until"]) < self._clock():
            return None
        who, digest = await self._named(found["id"])
        if who is None or not hmac.compare_digest(self._seal(found["id"], found["until"], digest), found["seal"]):
            return None
        return who

    async def session(self, token: str) -> tuple[Who, str] | None:
        """Open a session: who that is, and the value of the cookie. None for a token that is not valid, or a
        merchant's, for whom there is no dashboard. Raises DatabaseUnavailable.
        """
        who = await self.of_token(token)
        if who is None or who.role == "merchant":
            return None
        until = str(int(self._clock()) + SESSION)
        return who, f"{who.id}.{until}.{self._seal(who.id, until, digest_of(token))}"

    async def _named(self, token_id: str) -> tuple[Who | None, str]:
        if token_id == SETTINGS and self._configured is not None:
            return Who(SETTINGS, "write"), self._configured
        found = await self._known(token_id=token_id)
        return (None, "") if found is None else (Who(found.id, found.role, found.merchant), found.digest)

    async def _known(self, *, digest: str | None = None, token_id: str | None = None) -> Token | None:
        key, now = digest or f"id {token_id}", time.monotonic()
        asked_at, remembered = self._remembered.get(key, (-STALE, None))
        if now - asked_at <= FRESH:
            return remembered
        try:
            found = await tokens.find(self._door.database, digest=digest, token_id=token_id)
        except DatabaseUnavailable:
            if remembered is not None and now - asked_at <= STALE:
                return remembered
            raise
        self._remembered[key] = now, found
        self._remembered.move_to_end(key)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def _seal(self, token_id: str, until: str, digest: str) -> str:
        return hmac.new(self._key + digest.encode(), f"{token_id}.{until}".encode(), hashlib.sha256).hexdigest()
