"""Messages on their way to slots, from an operator or from another child, and what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from notifier.errors import ChildFailed, NoAnswer
from notifier.supervision.actions import Reply, Sender
from notifier.supervision.channel import Body
from notifier.supervision.slot import Slot


async def send(
    slots: Sequence[Slot], action: str, data: Any, sender: Sender, *, timeout: float, reply: bool
) -> list[Reply]:
    """Send to all of these before the first answer is waited for, so that order is kept; then gather what came of it.

    reply False: nothing is waited for. timeout: seconds, the time in which a slot becomes ready included. A process
    that dies with the message ends the waiting at once.
    """
    return list(await asyncio.gather(*[_sent(slot, action, data, sender, timeout, reply) for slot in slots]))


async def _sent(slot: Slot, action: str, data: Any, sender: Sender, timeout: float, reply: bool) -> Reply:
    epoch = slot.epoch
    try:
        answer, waits = slot.deliver(action, data, sender)
    except ChildFailed as error:
        return Reply.failed(slot.name, epoch, error)
    if not reply:
        answer.add_done_callback(_leave)
        return Reply(slot.name, epoch, "waits" if waits else "sent")
    try:
        async with asyncio.timeout(timeout):
            body = await answer
    except TimeoutError:
        late = NoAnswer(f"{action!r} was not answered within {timeout:g} s")
        return Reply.failed(slot.name, slot.epoch, late)
    except ChildFailed as error:
        return Reply.failed(slot.name, slot.epoch if waits else epoch, error)
    return Reply(slot.name, slot.epoch if waits else epoch, "done", body.get("data"))


def _leave(answer: asyncio.Future[Body]) -> None:
    """Nobody waits for it; asyncio complains about errors that nobody looked at."""
    if not answer.cancelled():
        answer.exception()
