"""From connected to told: what handing in one notification and a million have in common."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from notifier.broker import inspect
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.cli.registered import Registered
from notifier.cli.sending import Receipts, Sending
from notifier.cli.telling import Telling
from notifier.delivery.acceptance import Entrance
from notifier.delivery.facts import Recorder
from notifier.domain.notification import Notification
from notifier.domain.tier import Tier
from notifier.errors import InvalidInput, NotifierError
from notifier.settings import Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to hand in, or why it cannot be. line: None where there is only one. read: bytes read so far."""

    line: int | None
    notification: Notification | InvalidInput
    read: int = 0


class Producer:
    """Hands in entries, prints ids on stdout, tells the rest on stderr."""

    def __init__(
        self, settings: Settings, telling: Telling, registered: Registered, entries: AsyncIterator[Entry]
    ) -> None:
        self._settings = settings
        self._registered = registered
        self._telling = telling
        self._entries = entries
        self._topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
        self._publisher = Publisher(settings.amqp_urls, self._topology, "enqueue")
        self._recorder = Recorder(self._publisher, self._topology)
        self._entrance = Entrance(self._topology, self._publisher, self._recorder)
        self._receipts = Receipts(None if sys.stdout is None else sys.stdout.fileno(), self._say_unread)
        self._stop = Stop()
        self._checks: dict[Tier, asyncio.Task[None]] = {}
        self._sending: Sending | None = None
        self._read = 0
        self._without_url = 0
        self.read_all = False
        self.reading_failed: str | None = None
        self.failed = 0
        self.last_line = 0
        self.unsure: list[int] = []
        self.seconds = 0.0

    async def run(self) -> None:
        """Hand in all entries, or as many as there were before Ctrl-C. Raises what Link.start raises."""
        self._stop.listen()
        self._telling.listen()
        began = time.monotonic()
        try:
            connecting = self._publisher.start(self._settings.connect_timeout)
            if not await unless(self._stop.asked, connecting):
                return
            self._sending = Sending(self._entrance, self._receipts, self._refused)
            moving = asyncio.create_task(self._keep_moving(self._sending, began))
            if not await unless(self._stop.asked, self._hand_in_all(self._sending)):
                self._telling.say("stopping: waiting for what is under way; Ctrl-C again does not wait")
            await self._finish(self._sending)
            moving.cancel()
        finally:
            self.seconds = time.monotonic() - began
            self._telling.stop_moving()
            for check in self._checks.values():
                check.cancel()
            await self._recorder.close()
            await self._publisher.close()
        self._warn_of_missing_url()

    @property
    def accepted(self) -> int:
        """How many the broker confirmed."""
        return 0 if self._sending is None else self._sending.accepted

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or SIGTERM came before the end."""
        return self._stop.signal is not None

    @property
    def exit_code(self) -> int:
        """0 when everything was accepted and told, else 1; after a signal what shells give for it."""
        if self._stop.signal is not None:
            return 128 + self._stop.signal
        return 1 if self.failed or self._receipts.lost or self.reading_failed else 0

    async def _hand_in_all(self, sending: Sending) -> None:
        try:
            async for entry in self._entries:
                self._read = entry.read
                if isinstance(entry.notification, InvalidInput):
                    self._refused(entry.line, str(entry.notification))
                else:
                    await sending.add(entry.line or 0, entry.notification)
                    self._look_at(entry.notification)
                self.last_line = entry.line or 0
            self.read_all = True
        except OSError as error:
            self.reading_failed = error.strerror or str(error)

    async def _finish(self, sending: Sending) -> None:
        if not await unless(self._stop.insisted, sending.finish()):
            self.unsure = await sending.abandon()
            return
        telling_ledger = asyncio.wait_for(self._entrance.flush(), self._settings.connect_timeout)
        try:
            await unless(self._stop.insisted, telling_ledger)
        except TimeoutError:
            self._telling.say("all of it is accepted, but the ledger could not be told of the last ones yet")
        await unless(self._stop.insisted, _all(self._checks.values()))

    def _refused(self, line: int | None, why: str) -> None:
        self.failed += 1
        self._telling.say(f"line {line}: {why}" if line else why)

    def _look_at(self, notification: Notification) -> None:
        """Notice what will keep it from its merchant."""
        if notification.url is None and self._settings.callback is None:
            self._without_url += not self._registered.has_url(notification.merchant)
        assert notification.ladder is not None
        first = notification.ladder[notification.step]
        if first not in self._checks:
            self._checks[first] = asyncio.create_task(self._warn_if_unconsumed(first))

    async def _warn_if_unconsumed(self, tier: Tier) -> None:
        queues = self._topology.work_queues(tier)
        try:
            async with inspect.looking(self._settings.amqp_urls, "enqueue look", 1) as look:
                states = [(queue, await look.queue(queue)) for queue in queues]
        except NotifierError:
            return  # whatever is wrong with the broker is told by the publisher
        unserved = next((queue for queue, state in states if state is not None and not state.consumers), None)
        if unserved is not None:
            self._telling.say(
                f"nobody consumes {unserved}: what is accepted waits in RabbitMQ until `notifier run` is running"
            )

    def _warn_of_missing_url(self) -> None:
        if self._without_url:
            what = "it names" if self._without_url == 1 else f"{self._without_url:,} name"
            self._telling.say(f"{what} no url, and no registered one is known here: held, not sent, until there is one")

    def _say_unread(self, why: str) -> None:
        self._telling.say(f"the ids can no longer be printed ({why}); sending goes on all the same")

    async def _keep_moving(self, sending: Sending, began: float) -> None:
        while True:
            rate = sending.accepted / max(0.001, time.monotonic() - began)
            failed = f" · {self.failed:,} failed" if self.failed else ""
            self._telling.move(f"{sending.accepted:,} accepted{failed} · {rate:,.0f}/s", self._read)
            await asyncio.sleep(0.1)


class Stop:
    """Ctrl-C and SIGTERM: asked once, insisted on with the second. signal: which it was."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self.signal: int | None = None

    def listen(self) -> None:
        """From now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on, number)

    def _on(self, number: int) -> None:
        if self.asked.is_set():
            self.insisted.set()
        self.signal = number
        self.asked.set()


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work and return True; or cancel it and return False when the event comes first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return False


async def _all(tasks: Any) -> None:
    await asyncio.gather(*tasks)
