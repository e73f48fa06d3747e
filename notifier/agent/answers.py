"""What the agent answers: {"ok": …}, or {"problem": {"kind", "detail"}} with a sentence to act on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from notifier import logs
from notifier.errors import (
    BrokerError,
    ChildFailed,
    Conflict,
    DatabaseUnavailable,
    InvalidInput,
    NotFound,
    NotifierError,
)
from notifier.supervision.actions import Handler, Sender

#: Gets the data of the message, checked to be an object; what it returns stands under `ok`.
Work = Callable[[Mapping[str, Any]], Awaitable[Any]]

_KINDS: Mapping[type[NotifierError], str] = {
    NotFound: "not-found",
    Conflict: "conflict",
    InvalidInput: "invalid",
    DatabaseUnavailable: "unavailable",
    BrokerError: "unavailable",
    ChildFailed: "unavailable",
}


def answering(work: Work) -> Handler:
    """The handler of an action that does this work. Only a fault of ours is raised."""

    async def answer(data: Any, sender: Sender) -> dict[str, Any]:
        try:
            if not isinstance(data, Mapping):
                raise InvalidInput("the message holds no object")
            return {"ok": await work(data)}
        except NotifierError as error:
            return {"problem": {"kind": _kind(error), "detail": str(error)}}
        except Exception as error:
            logs.event("failed", logging.ERROR, exc_info=error, sender=str(sender))
            raise

    return answer


def text(data: Mapping[str, Any], name: str, otherwise: str | None = None) -> str:
    """A field that is text. Raises InvalidInput naming it; without `otherwise` it must be there."""
    value = data.get(name, otherwise)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name!r} is missing or no text")
    return value


def _kind(error: NotifierError) -> str:
    return next((kind for error_type, kind in _KINDS.items() if isinstance(error, error_type)), "unavailable")
