"""From a merchant's host name to addresses that may be dialled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from weakref import WeakValueDictionary

from aiohttp.abc import AbstractResolver, ResolveResult

from notifier.errors import EgressRefused
from notifier.webhook.exchange import current
from notifier.webhook.guard import Guard

AddressInfo = tuple[Any, ...]
Lookup = Callable[..., list[AddressInfo]]

#: Lookups at once. Each holds a thread until libc gives up, which a hanging name server can draw out to half a minute.
MOST_LOOKUPS = 256
#: Of these, for one merchant: more than the names it has, unless it makes up a new one for each notification.
MOST_OF_ONE = 16
#: Addresses of one name that are tried at most: a name with hundreds must not keep an attempt busy.
MOST_ADDRESSES = 8
#: Addresses of one name that are judged at most: DNS can answer with thousands, and judging takes the loop's time.
MOST_JUDGED = 64


class GuardedNames(AbstractResolver):
    """A resolver that keeps refused addresses from being tried where a name also has permitted ones.

    So `localhost` works where only 127.0.0.0/8 is let through. The guard judges each attempt again when it is made.
    """

    def __init__(self, guard: Guard, names: AbstractResolver) -> None:
        self._guard = guard
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The permitted addresses of `host`. Raises OSError if it has none at all, EgressRefused if none may be."""
        found = await self._names.resolve(host, port, family)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        permitted = [each for each in found[:MOST_JUDGED] if self._guard.refusal(each["host"]) is None]
        if not permitted:
            first = found[0]["host"]
            raise EgressRefused(
                f"the guard refused {first} ({self._guard.refusal(first)}), which is where {host} leads: "
                "allow it with NOTIFIER_EGRESS__ALLOW"
            )
        return permitted[:MOST_ADDRESSES]

    async def close(self) -> None:
        """Close the resolver behind."""
        await self._names.close()


class SystemNames(AbstractResolver):
    """The system's resolver (getaddrinfo), one daemon thread for each lookup.

    Not in the event loop's pool: that has a handful of threads (uvloop lets two look up at once), so a few merchants
    with hanging name servers would stop every other merchant's lookups. Not in a ThreadPoolExecutor either: its
    threads are joined when the process ends, and a drain must not wait for a name server. Lookups are rare, because
    the connector keeps their results and joins those for the same host, so a thread for each costs nothing.

    A lookup goes on when the attempt that wanted it has given up, so a merchant with a hanging name server and ever new
    names would take all the room there is: each has only a little of it. patience: seconds that one waits for room.
    """

    def __init__(self, lookup: Lookup = socket.getaddrinfo, *, patience: float = 5.0) -> None:
        self._lookup = lookup
        self._patience = patience
        self._room = asyncio.Semaphore(MOST_LOOKUPS)
        self._rooms: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of `host`. Raises OSError (gaierror) when there are none or the lookup failed."""
        # No AI_ADDRCONFIG: on a machine without a network it makes even localhost unknown, and an address of a family
        # that the machine lacks fails at once and is followed by the next.
        async with self._place_in(self._room_of(_who())), self._place_in(self._room):
            found = await self._in_thread(host, port, family, socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in found
            if kind in (socket.AF_INET, socket.AF_INET6)
        ]

    async def close(self) -> None:
        """Nothing is held; lookups under way end by themselves, and nobody waits for them."""

    def _room_of(self, merchant: str) -> asyncio.Semaphore:
        if not merchant:  # nobody's in particular
            return asyncio.Semaphore(1)
        room = self._rooms.get(merchant)  # there as long as somebody is in it
        if room is None:
            room = self._rooms[merchant] = asyncio.Semaphore(MOST_OF_ONE)
        return room

    @contextlib.asynccontextmanager
    async def _place_in(self, room: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await room.acquire()
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "too many lookups are under way") from None
        try:
            yield
        finally:
            room.release()

    async def _in_thread(self, *wanted: Any) -> list[AddressInfo]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[AddressInfo]] = loop.create_future()

        def tell(found: list[AddressInfo] | None, error: Exception | None) -> None:
            if answer.done():  # cancelled by close()
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found or [])

        def work() -> None:
            found: list[AddressInfo] | None = None
            error: Exception | None = None
            try:
                found = self._lookup(*wanted)
            except UnicodeError as unfit:  # a label over 63 characters, for example
                error = socket.gaierror(socket.EAI_NONAME, f"not a host name: {unfit}")
            except Exception as failed:
                error = failed
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(tell, found, error)

        threading.Thread(target=work, name="notifier: lookup", daemon=True).start()
        return await answer


def _who() -> str:
    """The merchant for whom the running task looks a name up."""
    exchange = current.get(None)
    return "" if exchange is None else exchange.merchant


def _numeric(address: tuple[Any, ...]) -> str:
    """The address as text, with its scope where it has one: `fe80::1` alone cannot be dialled."""
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
