"""Merchants that hang: takes every connection, reads every request, and never says a word.

    hanging_server.py FILE    listens on a free port of 127.0.0.1, prints it, writes a line per request into FILE

A line is as the receiver's: moment, webhook-id, attempt. It runs by its path, as a process of its own, so that what it
costs is in nobody's event loop.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

#: Bytes of a head that is waited for; what is longer is none of ours.
_MOST = 65_536


class Silent(asyncio.Protocol):
    """One connection. told: called with the line of each request on it."""

    def __init__(self, told: Callable[[str], object]) -> None:
        self._told = told
        self._head = b""
        self._read = False

    def data_received(self, data: bytes) -> None:
        """Read until the head is there. There is one request on a connection, since it is never answered."""
        if self._read:
            return
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > _MOST:
            self._read = True
            self._told(line(self._head, time.time()))


def line(head: bytes, now: float) -> str:
    """What is written of a request. now: Unix seconds."""
    sent = dict[str, str]()
    for field in head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = field.decode("latin-1").partition(":")
        sent[name.strip().lower()] = value.strip()
    return f"{now:.3f} {sent.get('webhook-id', '-')} {sent.get('notifier-attempt', '-')}"


async def serve(file: str) -> None:
    """Until SIGTERM, which ends the process as it does any."""
    with open(file, "a", buffering=1) as told:  # noqa: ASYNC230  # a line each, on a local disk
        server = await asyncio.get_running_loop().create_server(
            lambda: Silent(lambda text: told.write(text + "\n")), "127.0.0.1", 0, backlog=1024
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
