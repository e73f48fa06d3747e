"""Whose cancellation it is, and whether it was lost: in asyncio a CancelledError, or none, does not say."""

from __future__ import annotations

import asyncio


def is_cancelled() -> bool:
    """Whether the running task, or what a timeout is around, is to end. A CancelledError may as well come from what it
    awaited and somebody else cancelled.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def heed_cancellation() -> None:
    """Raise the cancellation of the running task, or of a timeout around it, if it was lost below.

    aiormq's `wait_for` loses one that comes together with an answer (Python 3.11, bpo-37658), and one that comes while
    a channel ends is replaced by what ended the channel. Whoever then tries again would do so for ever; but the task
    still counts it.
    """
    if is_cancelled():
        raise asyncio.CancelledError
