"""What a callback came to: a value, judged later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ErrorClass(StrEnum):
    """Why an attempt was not an acknowledgement, for people and for filters."""

    DNS = "dns"  # the host has no address, or the resolver failed
    CONNECT = "connect"  # nobody listens, no route
    TLS = "tls"  # handshake or certificate
    TIMEOUT = "timeout"  # connecting, sending or answering took too long
    RESET = "reset"  # the connection broke after it was made
    GUARD = "guard"  # the egress guard refused the address; nothing was sent
    TOO_LARGE = "too-large"  # headers or framing of the answer over our bounds
    STATUS = "status"  # an HTTP status that is no acknowledgement
    WRONG_ANSWER = "wrong-answer"  # 2xx, but the merchant's rule was not met
    CALLBACK = "callback"  # the user's own callback raised


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt's result.

    acknowledged: by the merchant's rule. status: HTTP status, if one came. error: None exactly when
    acknowledged. detail: one line for people. retry_after: seconds, from the merchant's `Retry-After`.
    gone: the endpoint said it is gone for good (410). address: `host:port` actually spoken to.
    answer: what was read of the body, at most the setting's bound. duration: seconds. ours: it says nothing about the
    merchant, since what was missing was missing here.
    """

    acknowledged: bool
    status: int | None = None
    error: ErrorClass | None = None
    detail: str = ""
    retry_after: float | None = None
    gone: bool = False
    address: str | None = None
    answer: bytes = b""
    duration: float = 0.0
    sent_headers: tuple[tuple[str, str], ...] = ()
    ours: bool = False

    def __post_init__(self) -> None:
        if self.acknowledged and self.error is not None:
            raise ValueError("an acknowledged outcome has no error")
        if not self.acknowledged and self.error is None:
            raise ValueError("an outcome that is not acknowledged names its error class")

    @classmethod
    def ok(cls, detail: str = "", *, status: int | None = None) -> Outcome:
        """Acknowledged; the short form for a user's own callback."""
        return cls(acknowledged=True, status=status, detail=detail)

    @classmethod
    def failed(
        cls, detail: str, *, error: ErrorClass = ErrorClass.CALLBACK, retry_after: float | None = None
    ) -> Outcome:
        """Not acknowledged: try again on the ladder; the short form for a user's own callback."""
        return cls(acknowledged=False, error=error, detail=detail, retry_after=retry_after)
