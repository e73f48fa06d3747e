"""The operator's end of the control socket."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from notifier.errors import BadFrame, NoMaster
from notifier.supervision.channel import Body, Channel
from notifier.supervision.runtime import SOCKET

#: Seconds to be let in.
CONNECT = 5.0


class Operator:
    """A connection to a living master. Made by `connect`; `close` it, twice is fine."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Body | None] = asyncio.Queue()
        self._channel: Channel

    @classmethod
    async def connect(cls, directory: Path) -> Operator:
        """Raises NoMaster: nobody listens in that runtime directory, or this user may not talk to it."""
        path = directory / SOCKET
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT):
                await asyncio.get_running_loop().sock_connect(sock, str(path))
        except OSError as error:  # TimeoutError is one
            sock.close()
            raise NoMaster(_refusal(path, error)) from None
        operator = cls()
        operator._channel = await Channel.open(sock, operator)
        return operator

    async def ask(self, verb: str, body: Mapping[str, Any] | None = None, *, timeout: float = 30.0) -> Body:
        """Send a request. Raises RequestFailed with the master's sentence, NoAnswer in time, PeerGone."""
        return await self._channel.ask(verb, body, timeout=timeout)

    async def events(self) -> AsyncIterator[Body]:
        """What happens from now on, until the master is gone or this is closed."""
        await self.ask("events")
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        """Say nothing more."""
        await self._channel.close()

    def noticed(self, name: str, body: Body) -> None:
        """Called by the channel."""
        if name != "event":
            raise BadFrame(f"the master told {name!r}, which no operator asked for")
        self._events.put_nowait(body)

    def asked(self, name: str, body: Body) -> Body:
        """Called by the channel."""
        raise BadFrame(f"the master asked an operator {name!r}")

    def link_ended(self, reason: str, *, broken: bool) -> None:
        """Called by the channel."""
        self._events.put_nowait(None)


def _refusal(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return (
            f"no service is running here: nobody listens at {path}. Start it, or point to the runtime directory of the "
            "one that you mean"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may be used only by the user who runs the service and by root"
    return f"the service at {path} cannot be reached: {error.strerror or error or 'it does not let anybody in'}"
