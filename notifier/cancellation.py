"""Whose cancellation it is: in asyncio a CancelledError does not say."""

from __future__ import annotations

import asyncio


def is_cancelled() -> bool:
    """Whether the running task itself is to end. A CancelledError may as well come from something that it awaited and
    that somebody else cancelled; and what a library swallows is not lost here: the task goes on counting it.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
