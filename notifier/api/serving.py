"""Listening: on a socket of our own, so that a port which is taken is told as a sentence; in the process's loop."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator

from fastapi import FastAPI
from uvicorn import Config, Server

from notifier.errors import ConfigurationError
from notifier.sections import Api

#: Connections that wait to be accepted.
BACKLOG = 1024
#: Seconds that requests get at most once it drains: accepting takes 8 at the longest, and one whose body never comes
#: must not hold up the end of the service for the whole drain_timeout.
LONGEST_GRACE = 10.0
#: Seconds that a connection may be idle between two requests.
KEEP_ALIVE = 30


class Serving(Server):
    """uvicorn without its signal handlers: signals are the process's own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield

    def drain(self) -> None:
        """Accept nothing more, finish what runs; `serve` returns then."""
        self.should_exit = True

    def hurry(self) -> None:
        """Do not even finish what runs."""
        self.should_exit = self.force_exit = True


def serving(app: FastAPI, grace: float) -> Serving:
    """A server for the application. grace: seconds that requests get to end once it drains."""
    return Serving(
        Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(min(grace, LONGEST_GRACE))),
        )
    )


def listen(api: Api) -> socket.socket:
    """A listening socket. Raises ConfigurationError: no token on an address that others reach, or it cannot be had."""
    family, address = _resolved(api)
    if api.token is None and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise ConfigurationError(
            f"NOTIFIER_API__HOST is {api.host}, which others can reach, and there is no token: set NOTIFIER_API__TOKEN "
            "(a fresh one: openssl rand -hex 24), or listen on 127.0.0.1"
        )
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address[0] != "::":
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigurationError(_refusal(api, error)) from None
    return listening


def url_of(listening: socket.socket, api: Api) -> str:
    """The address to open in a browser."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # what is shown, not what is listened on
    named = api.host if api.host == "localhost" else f"[{shown}]" if ":" in shown else shown
    return f"http://{named}:{port}"


def _resolved(api: Api) -> tuple[int, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(api.host.strip("[]"), api.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(
            f"NOTIFIER_API__HOST is {api.host}, which is no address of this machine: {error.strerror}"
        ) from None
    found.sort(key=lambda each: each[0] != socket.AF_INET)  # localhost is 127.0.0.1 where it is both
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _refusal(api: Api, error: OSError) -> str:
    place = f"the HTTP API cannot listen on {api.host} port {api.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{place}: another program does already; set NOTIFIER_API__PORT to a free one (0 takes any)"
        case errno.EACCES:
            return f"{place}: this user may not use that port; take one from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{place}: this machine has no such address"
    return f"{place}: {os.strerror(error.errno or 0)}"
