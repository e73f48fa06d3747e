"""What is known of one callback while it is under way: what was dialled, who was reached, what came back."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from notifier.webhook.wire import Wire


def _never() -> bool:
    return False


@dataclass(slots=True)
class Exchange:
    """One request and its answer, filled in as they happen, so that a break at any point can be told exactly.

    merchant: whose it is. dialled: addresses of connection attempts, latest last. wire: the connection used. reused: it
    was kept alive from an earlier exchange. fresh: only a new connection will do. status, retry_after: from the head of
    the answer. body: what was read of it; cut: more of it was left unread. withheld: asked when a connection is there
    and nothing has been sent on it; True means that nothing may be. ours: it failed for want of something that this
    process should have.
    """

    merchant: str = ""
    dialled: list[str] = field(default_factory=list)
    wire: Wire | None = None
    reused: bool = False
    fresh: bool = False
    status: int | None = None
    retry_after: str | None = None
    body: bytearray = field(default_factory=bytearray)
    cut: bool = False
    withheld: Callable[[], bool] = _never
    ours: bool = False

    @property
    def peer(self) -> str | None:
        """`host:port` of who was reached; None while nobody was."""
        return None if self.wire is None else self.wire.peer

    @property
    def unanswered(self) -> bool:
        """Whether not one byte came back."""
        return self.wire is None or self.wire.received == 0


#: The exchange of the running task. The connector reads it: aiohttp has no other way to tell which call a connection
#: attempt belongs to, and tasks it starts for several addresses of one host inherit the context.
current: ContextVar[Exchange] = ContextVar("exchange")
