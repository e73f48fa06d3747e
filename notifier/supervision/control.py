"""The control socket: who may connect, and what becomes of those who do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from notifier import logs
from notifier.errors import BadFrame, BadRuntimeDirectory, ChildFailed, PeerBusy
from notifier.supervision.channel import Body, Channel
from notifier.supervision.runtime import SOCKET

#: Longest path of a Unix socket, bytes (sun_path of unix(7), less the zero at its end).
PATH_LIMIT = 107
#: Operators at the same time.
CLIENTS_LIMIT = 100

#: Works on a request: gets who asks, the verb and the body.
Verbs = Callable[[str, str, Body], Awaitable[Body]]

_CREDENTIALS = struct.Struct("3i")


class Control:
    """Listens in the runtime directory. `start` once, `close` as often as you like."""

    def __init__(self, directory: Path, verbs: Verbs) -> None:
        self._path = directory / SOCKET
        self._verbs = verbs
        self._clients: set[_Client] = set()
        self._greeting: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Only for the one who holds the directory: what an earlier master left there is replaced.

        Raises BadRuntimeDirectory if the path is too long for a socket.
        """
        fresh = self._path.with_name(f"{SOCKET}.new")
        if len(os.fsencode(fresh)) > PATH_LIMIT:
            raise BadRuntimeDirectory(
                f"the path {fresh} is too long for a Unix socket (at most {PATH_LIMIT} bytes): "
                "choose a runtime directory with a shorter one"
            )
        fresh.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(fresh))
        fresh.chmod(0o600)  # before it listens, and before it has its name
        self._server = await asyncio.start_unix_server(self._welcome, sock=listening)
        fresh.replace(self._path)

    def tell(self, event: Body) -> None:
        """Tell an event to all who follow them. One who does not read them is let go."""
        for client in list(self._clients):
            if client.follows:
                client.tell(event)

    @property
    def followed(self) -> bool:
        """Somebody follows the events."""
        return any(client.follows for client in self._clients)

    async def close(self) -> None:
        """Give the last answers a moment to leave, then end all connections and remove the socket."""
        if self._server is None:
            return
        self._path.unlink(missing_ok=True)
        self._server.close()
        await asyncio.gather(*self._greeting, *(client.close() for client in list(self._clients)))
        self._server = None

    def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid, uid, _ = _credentials(writer.get_extra_info("socket"))
        if uid not in (0, os.geteuid()) or len(self._clients) >= CLIENTS_LIMIT:
            logs.event("control.refused", uid=uid, pid=pid, clients=len(self._clients))
            writer.transport.abort()
            return
        client = _Client(f"{_name(uid)} uid={uid} pid={pid}", self._verbs, self._clients)
        client.open(reader, writer)


class _Client:
    """One connection; the listener of its channel."""

    def __init__(self, who: str, verbs: Verbs, clients: set[_Client]) -> None:
        self.follows = False
        self._who = who
        self._verbs = verbs
        self._clients = clients
        self._closing: asyncio.Task[None] | None = None
        self._channel: Channel

    def open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        self._clients.add(self)
        self._channel = Channel(reader, writer, self)

    def tell(self, event: Body) -> None:
        try:
            self._channel.tell("event", event)
        except PeerBusy:
            self.follows = False
            self._let_go()
        except ChildFailed:
            return

    async def close(self) -> None:
        await self._channel.close()

    def noticed(self, name: str, body: Body) -> None:
        raise BadFrame(f"an operator told {name!r}; requests are expected")

    def asked(self, name: str, body: Body) -> Body | Awaitable[Body]:
        if name == "events":
            self.follows = True
            return {}
        return self._verbs(self._who, name, body)

    def link_ended(self, reason: str, *, broken: bool) -> None:
        self._clients.discard(self)
        self.follows = False
        self._let_go()

    def _let_go(self) -> None:
        """Close in a task of its own: the channel's own tasks, which call this, cannot wait for their own end."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._channel.close(flush=0))


def _credentials(sock: Any) -> tuple[int, int, int]:
    """pid, uid and gid of the process that connected, as the kernel noted them (SO_PEERCRED of unix(7))."""
    pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid, gid


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return "unknown"
