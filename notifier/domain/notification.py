"""A notification: what a merchant is told, and where on its ladder it stands."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import urlsplit

from notifier.domain.ladder import Ladder
from notifier.domain.tier import LONGEST, Tier
from notifier.errors import InvalidNotification

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Control characters, and halves of surrogate pairs (JSON may hold them, UTF-8 cannot).
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: What paths cannot hold between slashes.
_DOTS = frozenset({".", ".."})
#: RFC 3986 §3.2.2. Releases of Python differ in what they let stand beside the brackets.
_BRACKETS, _BRACKETED = re.compile(r"[\[\]]"), re.compile(r"\[[^\[\]]+\](:[0-9]*)?")
_USERINFO = re.compile(r"//[^/?#]*@")
# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

#: The merchant that operator events are addressed to: nobody else's.
OPERATIONS = "notifier-operations"

MOST_MERCHANT = 128
MOST_REFERENCE = 256
MOST_URL = 2048

#: A lateness beyond this (or a due moment in the future) says that two clocks disagree, not that we were late.
_PLAUSIBLE_MS = (LONGEST + 14 * 86_400) * 1000


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing to tell one merchant, at one step of its ladder.

    id: stable over all attempts, sent as `webhook-id`. payload: byte for byte what the merchant receives.
    url: None means the merchant's registered one, looked up at each attempt. ladder: None means the merchant's,
    else the default. step: 0-based rung of the ladder. attempt: 1-based number of the coming attempt.
    run: 0, one more for each replay or release. enqueued_at, due_at: Unix milliseconds, None when unknown.
    released: Unix milliseconds at which the agent let it go on after it was held; None for an attempt that is no such.
    extra: headers of the producer that notifier does not know; they are kept.
    """

    id: str
    merchant: str
    payload: bytes
    content_type: str = "application/json"
    url: str | None = None
    ladder: Ladder | None = None
    step: int = 0
    attempt: int = 1
    run: int = 0
    enqueued_at: int | None = None
    due_at: int | None = None
    reference: str | None = None
    traceparent: str | None = None
    released: int | None = None
    extra: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_new(self) -> bool:
        """Whether it was neither attempted before, nor let go on after it was held."""
        return self.attempt == 1 and self.released is None

    def lateness(self, now_ms: float) -> float | None:
        """Milliseconds after the due moment; None when there is no due moment or the clocks plainly disagree."""
        if self.due_at is None:
            return None
        late = now_ms - self.due_at
        return late if 0 <= late <= _PLAUSIBLE_MS else None

    def climbing(self, ladder: Ladder, tier: Tier, step: int, now_ms: int) -> Notification:
        """The same notification as it waits for its next attempt: in `tier`, at `step`, due after that delay."""
        return replace(
            self,
            ladder=ladder,
            step=step,
            attempt=self.attempt + 1,
            due_at=now_ms + tier.milliseconds,
            enqueued_at=self.enqueued_at if self.enqueued_at is not None else now_ms,
            released=None,
        )


def fresh_id() -> str:
    """A new notification id: `ntf_` and 128 random bits."""
    return f"ntf_{secrets.token_hex(16)}"


def is_id(text: str) -> bool:
    """Whether the text may be a notification id: 1 to 128 of A–Z a–z 0–9 _ -."""
    return _ID.fullmatch(text) is not None


def check_id(text: str) -> str:
    """The id, or InvalidNotification: it is sent as a header and stands in addresses."""
    if not is_id(text):
        raise InvalidNotification(
            f"{_shown(text)} is not a notification id: 1 to 128 characters of A-Z a-z 0-9 _ - are possible"
        )
    return text


def check_merchant(text: str) -> str:
    """An id that a merchant may get, or InvalidNotification: also, that HTTP paths can hold it.

    RFC 3986 §5.2.4: every client takes `.` and `..` out of a path before it asks, also as `%2E%2E`, so a merchant
    called `shop/../7` could be registered and never be reached.
    """
    check_known_merchant(text)
    if not _DOTS.isdisjoint(text.split("/")):
        raise InvalidNotification(
            f"{_shown(text)} is not a merchant id: no part of it between slashes may be . or .., "
            "since no HTTP path can name such a merchant"
        )
    return text


def check_known_merchant(text: str) -> str:
    """An id that a message or the registry may hold already, or InvalidNotification.

    Wider than what may come in by our own doors: a notification under way was accepted by the rules of its day, or by
    another producer, and is delivered; and whoever is registered can be blocked and removed.
    """
    if not text or text != text.strip() or len(text) > MOST_MERCHANT or _UNSENDABLE.search(text):
        raise InvalidNotification(
            f"{_shown(text)} is not a merchant id: 1 to {MOST_MERCHANT} characters without control characters "
            "or blanks at the ends are possible"
        )
    return text


def check_addressee(text: str) -> str:
    """The id of a merchant that a producer names, or InvalidNotification."""
    return refuse_own(check_merchant(text))


def refuse_own(text: str) -> str:
    """The id of a merchant that somebody other than the service addresses or changes, or InvalidNotification."""
    if text == OPERATIONS:
        raise InvalidNotification(
            f"{OPERATIONS} is the service's own name for its operator events, which go where `operations.url` says: "
            "give the merchant another id"
        )
    return text


def check_reference(text: str) -> str:
    """The producer's own key, or InvalidNotification."""
    if not text or len(text) > MOST_REFERENCE or _UNSENDABLE.search(text):
        raise InvalidNotification(
            f"{_shown(text)} is not a reference: 1 to {MOST_REFERENCE} characters without control characters "
            "are possible"
        )
    return text


def check_url(text: str) -> str:
    """The address to post to, or InvalidNotification: absolute http or https, a host, no userinfo, no blanks."""
    shown = _shown(_USERINFO.sub("//***@", text))
    if len(text) > MOST_URL:
        raise InvalidNotification(f"the url is {len(text)} characters long; at most {MOST_URL} are possible")
    if _UNSENDABLE.search(text) or " " in text or "\\" in text:
        raise InvalidNotification(
            f"{shown} is not a url: it holds a blank, a backslash, a control character or an unpaired surrogate"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidNotification(f"{shown} is not a url: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidNotification(f"{shown} is not a url to post to: it must start with https:// or http://")
    if not parts.hostname:
        raise InvalidNotification(f"{shown} is not a url to post to: it names no host")
    if _BRACKETS.search(parts.netloc) and not _BRACKETED.fullmatch(parts.netloc.rpartition("@")[2]):
        raise InvalidNotification(
            f"{shown} is not a url to post to: in brackets stands an IPv6 address, and nothing else"
        )
    if "@" in parts.netloc:
        raise InvalidNotification(
            "the url holds a user name or password before the host; send credentials as a header of the merchant"
        )
    if port == 0:
        raise InvalidNotification(f"{shown} is not a url to post to: port 0 is no port")
    return text


def is_traceparent(text: str) -> bool:
    """Whether the text is a W3C trace context parent; any other value is not passed on."""
    return _TRACEPARENT.fullmatch(text) is not None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
