"""What goes on for a while and is told once until it is over: tiers that are late, processes that keep ending.

What was told is a key of the desired state, `told/EVENT/SUBJECT`, so that this agent knows it after a restart as well;
the key goes when the trouble is over for as long as it had to last before it was told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from notifier import logs
from notifier.agent import happenings
from notifier.agent.happenings import Trouble
from notifier.domain.operations import Event, Happening
from notifier.errors import DatabaseUnavailable, NotifierError
from notifier.settings import Settings

PREFIX = "told/"
#: Seconds between two looks.
LOOK = 5.0
#: Seconds after which a trouble that nobody could end is forgotten, and told again if it is still there.
FORGOTTEN = 7 * 86_400.0
#: Seconds for the master's answer.
_PROMPT = 5.0


class Line(Protocol):
    """To the master."""

    @property
    def state(self) -> Mapping[str, Any]:
        """The desired state."""

    async def control(
        self, verb: str, body: Mapping[str, Any] | None = None, timeout: float = 30.0
    ) -> Mapping[str, Any]:
        """See `Parent.control`."""


class Incidents:
    """`watch` until cancelled. heads: see `happenings.troubles`. happened: see `Operations`. clock: Unix seconds."""

    def __init__(
        self,
        line: Line,
        settings: Settings,
        happened: Callable[[Happening], bool],
        heads: Callable[[], Awaitable[Mapping[str, int]]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._line = line
        self._settings = settings
        self._happened = happened
        self._heads = heads
        self._clock = clock
        self._bad: dict[tuple[Event, str], float] = {}
        self._well: dict[tuple[Event, str], float] = {}
        self._patience: dict[tuple[Event, str], float] = {}

    async def watch(self) -> None:
        """Look again and again; what cannot be asked now is asked later."""
        while True:
            try:
                await self.look()
            except NotifierError as error:
                logs.event("operations.blind", logging.WARNING, why=str(error), again_s=LOOK)
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Once. Raises ChildFailed."""
        status = await self._line.control("status", timeout=_PROMPT)
        try:
            heads = await self._heads()
        except DatabaseUnavailable:
            heads = {}
        for each in happenings.hung(status):
            self._happened(each)
        found = happenings.troubles(status, heads, self._settings.operations, int(self._clock() * 1000))
        for trouble in found:
            self._goes_on(trouble, str(status["since"]))
        await self._end({(trouble.event, trouble.subject) for trouble in found})

    async def told(self, happening: Happening) -> None:
        """It was told: remember that. Raises ChildFailed."""
        if (happening.event, happening.subject) in self._bad:
            value = {"since": logs.moment(happening.at), "id": happening.id}
            body = {"key": _key(happening.event, happening.subject), "value": value, "for": FORGOTTEN}
            await self._line.control("push", body, timeout=_PROMPT)

    def _goes_on(self, trouble: Trouble, run: str) -> None:
        key, now = (trouble.event, trouble.subject), self._clock()
        since = self._bad.setdefault(key, now)
        self._well.pop(key, None)
        self._patience[key] = trouble.patience
        if now - since < trouble.patience or _key(*key) in self._line.state:
            return
        identity = f"{self._settings.machine} {run} {since:.3f}"
        facts = {**trouble.facts, "since": logs.moment(int(since * 1000))}
        happening = Happening(trouble.event, int(since * 1000), trouble.subject, identity, trouble.sentence, facts)
        self._happened(happening)

    async def _end(self, found: set[tuple[Event, str]]) -> None:
        """Forget what is over, also what an agent before this one told."""
        now = self._clock()
        for key in {*self._bad, *_told(self._line.state)} - found:
            since = self._well.setdefault(key, now)
            if now - since >= self._patience.get(key, self._settings.operations.late_for):
                if _key(*key) in self._line.state:
                    await self._line.control("clear", {"key": _key(*key)}, timeout=_PROMPT)
                for memory in (self._bad, self._well, self._patience):
                    memory.pop(key, None)


def _key(event: Event, subject: str) -> str:
    return f"{PREFIX}{event}/{subject}"


def _told(state: Mapping[str, Any]) -> set[tuple[Event, str]]:
    found = set()
    for key in state:
        if key.startswith(PREFIX):
            event, _, subject = key.removeprefix(PREFIX).partition("/")
            if event in list(Event):
                found.add((Event(event), subject))
    return found
