"""Messages for a slot whose process is not ready yet: they wait for it, in their order and within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from notifier.errors import ChildFailed, PeerBusy, PeerGone
from notifier.supervision import frames
from notifier.supervision.actions import Sender
from notifier.supervision.channel import Body

#: Messages, and bytes of them, that wait for one slot.
LIMIT = 1000
BYTES_LIMIT = 4 * frames.LIMIT

#: Sends a message to the process; `Incarnation.request` has this shape.
Request = Callable[[str, Any, Sender], "asyncio.Future[Body]"]


@dataclass(slots=True)
class _Message:
    action: str
    data: Any
    sender: Sender
    size: int
    answer: asyncio.Future[Body]


class Inbox:
    """First in, first out. A message whose future is cancelled is never delivered."""

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self._messages: deque[_Message] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, action: str, data: Any, sender: Sender) -> asyncio.Future[Body]:
        """Keep a message; the future is its answer. Raises PeerBusy at once, or BadFrame if it is no JSON."""
        size = len(frames.encode({"action": action, "data": data}))
        if len(self._messages) >= LIMIT or self._size + size > BYTES_LIMIT:
            raise PeerBusy(f"{self._slot} is not ready, and {len(self._messages)} messages wait for it already")
        answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        message = _Message(action, data, sender, size, answer)
        self._messages.append(message)
        self._size += size
        answer.add_done_callback(lambda _: self._withdraw(message))
        return answer

    def deliver(self, request: Request) -> None:
        """Send all that waits, in order, before anything that comes from now on."""
        waiting, self._messages, self._size = self._messages, deque(), 0
        for message in waiting:
            if message.answer.done():
                continue
            try:
                inner = request(message.action, message.data, message.sender)
            except ChildFailed as error:
                message.answer.set_exception(error)
            else:
                _pass_on(inner, message.answer)

    def refuse(self, reason: str) -> None:
        """Nobody will ever be ready here: all that waits fails."""
        waiting, self._messages, self._size = self._messages, deque(), 0
        for message in waiting:
            if not message.answer.done():
                message.answer.set_exception(PeerGone(reason))

    def _withdraw(self, message: _Message) -> None:
        if any(message is waiting for waiting in self._messages):
            self._messages = deque(waiting for waiting in self._messages if waiting is not message)
            self._size -= message.size


def _pass_on(inner: asyncio.Future[Body], outer: asyncio.Future[Body]) -> None:
    """The outer future gets what becomes of the inner one, and is not wanted any more if the outer one is cancelled."""

    def answered(_: asyncio.Future[Body]) -> None:
        if inner.cancelled() or outer.done():
            return
        if (error := inner.exception()) is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())

    def unwanted(_: asyncio.Future[Body]) -> None:
        if outer.cancelled():
            inner.cancel()

    inner.add_done_callback(answered)
    outer.add_done_callback(unwanted)
