"""What the breakers of this machine say is told to the other machines, so that all leave a merchant alone together.

Told once, without waiting for answers: a machine that does not hear it finds out by itself, with some attempts more.
What was told by another machine says so (`machine`), and is not passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from notifier.agent.breakers import PREFIX

#: Seconds after the moment of the next probe at which another machine forgets what it was told, if nothing more comes.
LASTING = 600.0

#: Has every other machine's master do a verb.
Tell = Callable[[str, Mapping[str, Any]], Awaitable[object]]


class Sharing:
    """machine: the name of this one. clock: Unix seconds. `run` until cancelled."""

    def __init__(self, machine: str, tell: Tell, clock: Callable[[], float]) -> None:
        self._machine = machine
        self._tell = tell
        self._clock = clock
        self._news: dict[str, Any] = {}  # the newest of each key, in the order of time
        self._some = asyncio.Event()
        self._told_by_others: set[str] = set()

    def follow(self, key: str, value: Any) -> None:
        """A key and its value now, None where it was cleared: to be told, unless another machine told it."""
        if (value is None and key in self._told_by_others) or (isinstance(value, Mapping) and "machine" in value):
            self._news.pop(key, None)
            return
        self._news.pop(key, None)
        self._news[key] = value
        self._some.set()

    @contextlib.contextmanager
    def heard(self, verb: str, body: Mapping[str, Any]) -> Iterator[None]:
        """While this lasts, what another machine asked for is being done here. What it sets says so itself (`machine`);
        what it clears is known by this alone.
        """
        key = str(body.get("key"))
        if verb != "clear" or not key.startswith(PREFIX):
            yield
            return
        self._told_by_others.add(key)
        try:
            yield
        finally:
            self._told_by_others.discard(key)

    async def run(self) -> None:
        """Tell what is new, one key after the other."""
        while True:
            await self._some.wait()
            while self._news:
                key = next(iter(self._news))
                await self._tell(*self._said(key, self._news.pop(key)))
            self._some.clear()

    def _said(self, key: str, value: Any) -> tuple[str, Mapping[str, Any]]:
        body = {"key": key, "who": f"machine {self._machine}", "timeout": 5.0}
        if not isinstance(value, Mapping):
            return "clear", body
        until = value.get("until")
        rest = until / 1000 - self._clock() if isinstance(until, int | float) else 0.0
        return "push", body | {"value": {**value, "machine": self._machine}, "for": max(0.0, rest) + LASTING}
