"""Named actions of a child: handlers, who sent a message, and what came of one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notifier import logs
from notifier.errors import BadFrame, ChildFailed, NoAnswer, NotifierError, PeerBusy, PeerGone, RequestFailed
from notifier.supervision.channel import Body


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a message. slot: `ctl` for an operator. epoch: which incarnation of that slot; 0 for an operator."""

    slot: str
    epoch: int

    def __str__(self) -> str:
        return f"{self.slot} (epoch {self.epoch})" if self.epoch else self.slot


#: Gets the message's data and who sent it; what it returns is the reply, a JSON value.
Handler = Callable[[Any, Sender], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a message in one slot.

    result: done (with data), error, timeout, gone, busy; one way: sent, or waits until that slot is ready.
    """

    slot: str
    epoch: int
    result: str
    data: Any = None
    error: str | None = None

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        shown = {"slot": self.slot, "epoch": self.epoch, "result": self.result}
        if self.result == "done":
            shown["data"] = self.data
        elif self.error is not None:
            shown["error"] = self.error
        return shown

    @classmethod
    def read(cls, shown: Mapping[str, Any]) -> Reply:
        """Back from what `shown` gave. Raises BadFrame."""
        match shown:
            case {"slot": str(slot), "epoch": int(epoch), "result": str(result)}:
                return cls(slot, epoch, result, shown.get("data"), shown.get("error"))
        raise BadFrame(f"no reply: {str(shown)[:200]}")

    @classmethod
    def failed(cls, slot: str, epoch: int, error: Exception) -> Reply:
        """For a message that led to nothing."""
        results: dict[type[Exception], str] = {NoAnswer: "timeout", PeerGone: "gone", PeerBusy: "busy"}
        return cls(slot, epoch, results.get(type(error), "error"), error=str(error))

    def value(self) -> Any:
        """The data. Raises the ChildFailed that belongs to any other result."""
        if self.result == "done":
            return self.data
        kind: type[ChildFailed] = {"timeout": NoAnswer, "gone": PeerGone, "busy": PeerBusy}.get(
            self.result, RequestFailed
        )
        raise kind(f"{self.slot}: {self.error or self.result}")


class Actions:
    """The handlers of one child, by name."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def on(self, action: str, handler: Handler) -> None:
        """Raises ValueError if the action has a handler already."""
        if action in self._handlers:
            raise ValueError(f"the action {action!r} has a handler already")
        self._handlers[action] = handler

    async def handle(self, body: Body) -> Body:
        """Work on one message. Raises BadFrame, or RequestFailed with the sentence for the sender."""
        match body:
            case {"action": str(action), "data": data, "sender": {"slot": str(slot), "epoch": int(epoch)}}:
                return {"data": await self._work(action, data, Sender(slot, epoch))}
        raise BadFrame(f"a message holds {sorted(body)} and cannot be understood")

    async def _work(self, action: str, data: Any, sender: Sender) -> Any:
        handler = self._handlers.get(action)
        if handler is None:
            known = ", ".join(sorted(self._handlers)) or "none"
            raise RequestFailed(f"there is no action {action!r} here; those there are: {known}")
        try:
            return await handler(data, sender)
        except NotifierError:
            raise
        except Exception as error:  # the user's own code: the sender hears it, the log has the traceback
            logs.event("action.failed", logging.ERROR, exc_info=error, action=action, sender=str(sender))
            raise RequestFailed(f"{action} failed: {error!r}") from error
