"""What the agent does all the time: whatever breaks it off is told, and it begins again after a pause.

An agent whose facts are not stored any more, while it says that it is ready, would be noticed by nobody.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from notifier import logs
from notifier.cancellation import heed_cancellation

#: Seconds before it begins again: doubled each time, until it lasted for longer than the longest pause.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


def watched(what: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """A task that does this work until it returns or is cancelled, whatever it raises. what: for people."""
    return asyncio.create_task(_for_ever(what, work), name=what)


async def _for_ever(what: str, work: Callable[[], Awaitable[None]]) -> None:
    pause = FIRST_PAUSE
    while True:
        began = time.monotonic()
        try:
            return await work()
        except (Exception, asyncio.CancelledError) as failure:
            heed_cancellation()  # else something that it waited for was cancelled, not this
            error = failure
        if time.monotonic() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        logs.event("failed", logging.ERROR, exc_info=error, what=f"{what}: it begins again", again_s=pause)
        await asyncio.sleep(random.uniform(pause / 2, pause))
        pause = min(pause * 2, LONGEST_PAUSE)
