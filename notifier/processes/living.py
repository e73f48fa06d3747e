"""What the processes of the service have in common: how one joins its master, how it starts, and with what it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from notifier import logs
from notifier.errors import ConfigurationError
from notifier.settings import Settings
from notifier.supervision.child import Parent


class Process(Protocol):
    """The parts of one process."""

    async def run(self) -> None:
        """Start, work until told to drain, stop. Raises ConfigurationError for what starting again cannot help."""


async def live(fd: int, slot: str, epoch: int, name: str, made: Callable[[Parent, Settings], Process]) -> int:
    """The whole life of a process; returns its exit code. fd: its end of the pipe to the master. name: in its log.

    A configuration error is told to the master, which ends the service with that sentence.
    """
    parent = await Parent.join(fd, slot, epoch)
    try:
        settings = Settings.received(parent.boot["settings"])
        logs.configure(settings.log.level, settings.log.format, name)
        await made(parent, settings).run()
    except ConfigurationError as error:
        await parent.refuse(error.exit_code, str(error))
        return error.exit_code
    finally:
        await parent.close()
    return 0


async def started(parent: Parent, start: Coroutine[Any, Any, None]) -> bool:
    """Start; False when told to drain before that was done, for example while the broker is unreachable."""
    starting = asyncio.create_task(start)
    draining = asyncio.create_task(parent.draining.wait())
    await asyncio.wait([starting, draining], return_when=asyncio.FIRST_COMPLETED)
    draining.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True
