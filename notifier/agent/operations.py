"""Tells the operations URL what happened: as ordinary notifications, on the default ladder, signed like any other.

happened → known already? → gathered, counted → accepted by the broker → in the ledger and on the dashboard as all are

Ids are made of what happened, so what is told twice is one event to whoever reads it; and what the ledger has is not
told again after a restart. Nothing here waits for anybody, and nothing that is told about the merchant of these events
themselves is ever a happening.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from notifier import logs
from notifier.agent.flood import Batch, Gate
from notifier.agent.watched import watched
from notifier.domain import operations
from notifier.domain.notification import OPERATIONS, Notification
from notifier.domain.operations import Event, Happening
from notifier.errors import BrokerError, ChildFailed, DatabaseUnavailable
from notifier.settings import Settings

#: Events of one kind in an interval. Of ladders that are used up there may be thousands in a second.
BURST = dict.fromkeys(Event, 10) | {Event.NOTIFICATION_EXHAUSTED: 1}
#: Seconds before an event that RabbitMQ refused is handed to it again; events that may wait for that.
AGAIN, MOST_WAITING = 5.0, 100
#: Seconds for the last events, when the agent stops.
LAST = 2.0
#: Happenings that are remembered.
_REMEMBERED = 5000


class Operations:
    """`start` and `close` once each; twice is fine for `close`.

    accept: hands a notification to the broker. known: which of these ids the ledger has; raises
    DatabaseUnavailable. told: hears of what was told, after the broker's confirm; may raise ChildFailed. clock: Unix
    seconds. steady: seconds.
    """

    def __init__(
        self,
        settings: Settings,
        accept: Callable[[Notification], Awaitable[object]],
        known: Callable[[Sequence[str]], Awaitable[set[str]]],
        told: Callable[[Happening], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._wanted = settings.operations.wanted
        self._accept = accept
        self._known = known
        self._told = told
        self._clock = clock
        self._steady = steady
        self._gates = {event: Gate(BURST[event], settings.operations.interval) for event in Event}
        self._heard: deque[Happening] = deque(maxlen=_REMEMBERED)
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._last: OrderedDict[tuple[Event, str], float] = OrderedDict()
        self._waiting: deque[tuple[Notification, Batch]] = deque(maxlen=MOST_WAITING)
        self._news = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    @property
    def wants(self) -> frozenset[Event]:
        """The events that anybody wants to be told of."""
        return self._wanted

    def happened(self, happening: Happening) -> bool:
        """It happened. False: something like it was told a short time ago; say it again if it still is so later.

        May be called twice for the same thing. Does not wait.
        """
        event, now = happening.event, self._steady()
        if event not in self._wanted or happening.facts.get("merchant") == OPERATIONS:
            return True
        if happening.id in self._remembered:
            return True
        if happening.subject:  # else it is of those that are counted, each of which comes once
            last = self._last.get((event, happening.subject))
            if last is not None and now - last < self._settings.operations.interval:
                return False
            self._last[event, happening.subject] = now
            self._remembered[happening.id] = None
            _forget(self._last)
            _forget(self._remembered)
            self._heard.append(happening)
        else:
            self._gates[event].add(happening, now)
        self._news.set()
        return True

    def start(self) -> None:
        """Begin to tell, if anybody wants to know."""
        if self._wanted:
            self._telling = watched("operator events", self._tell_all)

    async def close(self) -> None:
        """Tell at once what was gathered, if that is soon done."""
        telling, self._telling = self._telling, None
        if telling is None:
            return
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        with contextlib.suppress(TimeoutError, BrokerError):
            async with asyncio.timeout(LAST):
                await self._look_up()
                for gate in self._gates.values():
                    self._compose(gate.rest(self._steady()))
                await self._hand_in()

    async def _tell_all(self) -> None:
        while True:
            await self._wait()
            self._news.clear()
            await self._look_up()
            for gate in self._gates.values():
                self._compose(gate.take(self._steady()))
            try:
                await self._hand_in()
            except BrokerError as error:
                logs.event(
                    "operations.untold", logging.WARNING, why=str(error), waiting=len(self._waiting), again_s=AGAIN
                )
                await asyncio.sleep(AGAIN)
                self._news.set()

    async def _wait(self) -> None:
        """For news, or until something that was gathered is to be told."""
        due = min((gate.due for gate in self._gates.values() if gate.due is not None), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - self._steady())):
                await self._news.wait()

    async def _look_up(self) -> None:
        """What the ledger has was told before this process began, or by another machine."""
        heard = list(self._heard)
        try:
            known = await self._known([each.id for each in heard]) if heard else set()
        except DatabaseUnavailable:
            known = set()  # told twice under one id is better than not at all
        for each in heard:  # not taken out before: cancelled meanwhile, they are told at the end
            if self._heard and self._heard[0] is each:
                self._heard.popleft()
            if each.id not in known:
                self._gates[each.event].add(each, self._steady())
        await self._remember([each for each in heard if each.id in known])

    def _compose(self, batches: list[Batch]) -> None:
        url = self._settings.operations.url
        assert url is not None
        for happenings, count in batches:
            now_ms = int(self._clock() * 1000)
            notification = operations.told(happenings, count, self._settings.machine, url, now_ms)
            self._waiting.append((replace(notification, ladder=self._settings.default_ladder), (happenings, count)))

    async def _hand_in(self) -> None:
        while self._waiting:
            notification, (happenings, count) = self._waiting[0]
            await self._accept(notification)
            self._waiting.popleft()
            logs.event(
                "operations.told", event_type=str(happenings[0].event), notification=notification.id, count=count,
                what=happenings[0].sentence,
            )  # fmt: skip
            await self._remember(happenings)

    async def _remember(self, happenings: Sequence[Happening]) -> None:
        for happening in happenings:
            with contextlib.suppress(ChildFailed):  # it may be told again after a restart
                await self._told(happening)


def _forget(remembered: OrderedDict[str, None] | OrderedDict[tuple[Event, str], float]) -> None:
    if len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
