"""Connections to merchants: guarded, and kept alive for a while."""

from __future__ import annotations

import functools
import socket
import ssl
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from notifier.errors import CallWithheld
from notifier.webhook.address import spelled
from notifier.webhook.exchange import current
from notifier.webhook.guard import Guard
from notifier.webhook.names import GuardedNames
from notifier.webhook.wire import Wire

#: Seconds an idle connection is kept. Node and Apache close theirs after 5: letting go first leaves fewer moments in
#: which a request meets a connection that is just being closed.
IDLE = 4.0
#: Seconds a name's addresses are kept.
NAMES_KEPT = 30
MOST_NAMES_KEPT = 4096


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool of connections, with the guard at every attempt and the running exchange told what happens.

    Neither the number of connections nor that to one host is limited here: what runs at once is bounded by the tier
    process's prefetch, and a cap of the pool would let a hanging merchant starve the others.
    """

    def __init__(self, guard: Guard, names: AbstractResolver, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        super().__init__(
            limit=0,
            keepalive_timeout=IDLE,
            resolver=GuardedNames(guard, names),
            ttl_dns_cache=NAMES_KEPT,
            dns_cache_max_size=MOST_NAMES_KEPT,
            socket_factory=self._open,
            ssl=_verified() if tls is None else tls,
        )
        # The one private name of aiohttp used: there is no public way to choose the protocol. The tests of endless
        # heads and of reused connections fail if it ever moves.
        self._factory = cast("functools.partial[ResponseHandler]", functools.partial(Wire, loop=self._loop))

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """A connection for this request: kept alive and still sound, else new.

        Raises CallWithheld if the merchant was blocked meanwhile: connecting can take seconds, and this is the last
        moment before the request is sent.
        """
        exchange = current.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            wire = connection.protocol
            assert isinstance(wire, Wire)
            reused = wire.requests > 0
            # should_close: something came in unasked while it was idle (a 408, for example).
            if reused and (exchange.fresh or wire.should_close):
                connection.close()
                continue
            if exchange.withheld():
                connection.release()
                raise CallWithheld("the merchant was blocked before the request was sent")
            wire.requests += 1
            exchange.wire, exchange.reused = wire, reused
            return connection

    def _open(self, addr_info: tuple[Any, ...]) -> socket.socket:
        opened = self._guard.open(addr_info)
        current.get().dialled.append(spelled(addr_info[4]))
        return opened


@functools.cache
def _verified() -> ssl.SSLContext:
    """The system's authorities, and TLS 1.2 at least (RFC 8996): what a system's OpenSSL takes by itself differs.

    One for the process: reading the authorities takes a tenth of a second.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
