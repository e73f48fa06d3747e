"""What the control line changes in a tier process, and what it is asked there.

Keys of the desired state, `TARGET` being an address of this process (slot, `tier:5s`, `tier`, `all`):

    pause/TARGET              {"paused": true}
    block/MERCHANT            anything but false; {"reason": …} is told with what is held
    set/TARGET/prefetch       1 … 2000
    set/TARGET/concurrency    1 … 2000: callbacks at once in this process
    set/TARGET/rate           a number above 0: callbacks per second in this process
    log-level/TARGET          debug, info, warning, error

Of several that concern this process the one with the narrowest target counts; a pause is in force as long as any is.
A change counts as applied when it is in force:

- pause: the consumer is cancelled, what had not started is back in the queue, nothing new starts. Running callbacks
  finish; nobody waits for them, since `inflight` shows them.
- block: no callback to that merchant starts any more, from this line of code on; those that had started are over, or
  had `LAST_WORDS` to be: what was written to the merchant's connection has arrived there before the answer is given.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from notifier import logs
from notifier.broker.consumer import Consumer
from notifier.broker.publisher import Publisher
from notifier.delivery.careful import CarefulStart
from notifier.delivery.delivery import DeliveryRoom
from notifier.delivery.inflight import Work
from notifier.domain.merchant import Merchant, Standing
from notifier.errors import InvalidInput
from notifier.settings import Settings
from notifier.supervision.actions import Sender
from notifier.supervision.child import Parent

#: Seconds that callbacks under way to a merchant get before the block of it is answered.
LAST_WORDS = 1.0
#: Seconds for a connection with another prefetch; without a broker there is none, and nothing is taken by the old one.
RECONNECT = 3.0
#: Works in one answer to `inflight`.
MOST_WORKS = 1000
#: RabbitMQ's own bound for quorum queues (FACTS §2), and the setting's.
MOST = 2000
MOST_RATE = 100_000
LEVELS = ("debug", "info", "warning", "error")


class TierControl:
    """The control line's hold on one tier process. `follow` before the first delivery, with all parts at hand.

    addresses: of this process, the narrowest first. careful: the careful start that is under way, or None.
    """

    def __init__(
        self,
        parent: Parent,
        tier: str,
        addresses: Sequence[str],
        settings: Settings,
        room: DeliveryRoom,
        consumer: Consumer,
        publisher: Publisher,
        careful: Callable[[], CarefulStart | None],
    ) -> None:
        self._parent = parent
        self._addresses = addresses
        self._settings = settings
        self._room = room
        self._consumer = consumer
        self._publisher = publisher
        self._careful = careful
        self._tier = tier
        self._started = False
        self._ending = False
        self._going: asyncio.Task[None] | None = None
        self._widening: asyncio.Task[None] | None = None
        self._blocked: dict[str, str] = {}
        self._pauses: set[str] = set()
        self._chosen: dict[str, dict[str, Any]] = {"prefetch": {}, "concurrency": {}, "rate": {}, "log-level": {}}

    async def follow(self) -> None:
        """Take over the desired state as it is, and every change from now on; answer `inflight` and `settings`."""
        self._parent.on("inflight", self._inflight)
        self._parent.on("settings", self._on_settings)
        self._parent.statistics = self.statistics
        await self._parent.follow(self._on_block, "block/")
        await self._parent.follow(self._on_pause, "pause/")
        await self._parent.follow(self._on_set, "set/")
        await self._parent.follow(self._on_log_level, "log-level/")

    def started(self) -> None:
        """The consumer is there: from here on a change of the prefetch means a new connection."""
        self._started = True

    def end(self) -> None:
        """This process drains: nothing lets it take deliveries again."""
        self._ending = True

    @property
    def prefetch(self) -> int:
        """Deliveries that may be in the hands of this process, the careful time apart."""
        return int(self._narrowest("prefetch", self._settings.prefetch))

    @property
    def paused(self) -> bool:
        """Whether this process shall not take anything."""
        return bool(self._pauses)

    def is_blocked(self, merchant: str) -> bool:
        """Whether no callback to it may start."""
        return merchant in self._blocked

    def standing(self, merchant: Merchant) -> Merchant:
        """The merchant as the operators' overrides leave it."""
        why = self._blocked.get(merchant.id)
        if why is None:
            return merchant
        return replace(merchant, standing=Standing.BLOCKED, why=why)

    def statistics(self) -> dict[str, Any]:
        """For the heartbeat."""
        return {
            "in_flight": len(self._room),
            "prefetch": self._consumer.prefetch,
            "concurrency": self._room.turns.most,
            "per_second": self._room.turns.rate,
            "overflowing": len(self._room.turns.overflowing),
            "breakers": len(self._room.breakers.open),
            **self._room.tally.read(),
            "careful": self._careful() is not None,
            "link": "up" if self._consumer.connected and self._publisher.connected else "down",
        }

    async def _on_block(self, key: str, value: Any) -> None:
        merchant = key.removeprefix("block/")
        if not _is_on(value, "blocked"):
            self._blocked.pop(merchant, None)
            return
        reason = value.get("reason") if isinstance(value, Mapping) else None
        self._blocked[merchant] = str(reason or "blocked by an operator on this machine")
        if not await self._room.called_back(merchant, LAST_WORDS):
            logs.event("block.running", merchant=merchant, hint="callbacks that had started before are still running")

    async def _on_pause(self, key: str, value: Any) -> None:
        target = key.removeprefix("pause/")
        if target not in self._addresses:
            return
        if _is_on(value, "paused"):
            self._pauses.add(target)
        else:
            self._pauses.discard(target)
        if self.paused:
            await self._pause()
        elif not self._ending:
            await self._resume()
        self._parent.paused = self.paused

    async def widen(self) -> None:
        """Consume with the prefetch that is wanted now; see `Consumer.widen`. In strict order what runs is over first:
        the broker may give what was in our hands to another machine.
        """
        self._room.turns.prefetch = self.prefetch
        if not self._room.strict:
            self._consumer.widen(self.prefetch)
            return
        self._widening = self._widening or asyncio.create_task(self._widen_strictly())
        widening = self._widening
        await asyncio.wait([widening])  # who gives up waiting here must not end it half-way, with the room shut
        widening.result()

    async def _widen_strictly(self) -> None:
        try:
            while not self._ending:
                wanted = self.prefetch
                self._room.shut()
                await self._room.give_back()
                await self._room.drained()
                if self._ending:
                    return
                self._consumer.widen(wanted)
                if not self.paused:
                    await self._consumer.consuming()
                if wanted == self.prefetch:
                    break
            if not self.paused and not self._ending:
                self._room.open()
        finally:
            self._widening = None

    async def _pause(self) -> None:
        self._room.shut()
        if self._room.strict:
            await self._room.give_back()
            self._going = self._going or asyncio.create_task(self._go())
            return
        if not await self._consumer.stop_taking():
            self._consumer.widen(self._consumer.prefetch)  # a new connection, which does not consume
        await self._room.give_back()
        if (careful := self._careful()) is not None:
            await careful.give_back()

    async def _go(self) -> None:
        """Leave the queue to others once nothing of it runs here: nobody who pauses waits for that."""
        await self._room.drained()
        self._consumer.leave()

    async def _resume(self) -> None:
        if self._going is not None:
            await asyncio.wait([self._going])  # who gives up waiting here must not end it: it has the queue to leave
            self._going = None
            if self._ending:
                return
        self._room.open()
        await self._consumer.take_again()

    async def _on_set(self, key: str, value: Any) -> None:
        _, target, name = _parts(key)
        if target not in self._addresses:
            return
        _check(name, value)
        self._choose(name, target, value)
        if name == "concurrency":
            self._room.turns.limit(self._narrowest(name, None))
        elif name == "rate":
            self._room.turns.pace(self._narrowest(name, None))
        elif self._careful() is None:  # it has a prefetch of its own until it is over
            await self._take_prefetch()

    async def _take_prefetch(self) -> None:
        if self._ending or (self._consumer.prefetch == self.prefetch and self._widening is None):
            return  # who drains would only lose what it still has in hand
        await self.widen()
        if self._started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT):
                    await self._consumer.consuming()

    async def _on_log_level(self, key: str, value: Any) -> None:
        target = key.removeprefix("log-level/")
        if target not in self._addresses:
            return
        if value is not None and value not in LEVELS:
            raise InvalidInput(f"{str(value)[:50]!r} is not a log level: possible are {', '.join(LEVELS)}")
        self._choose("log-level", target, value)
        self._take_log()

    def _take_log(self) -> None:
        level = self._narrowest("log-level", self._settings.log.level)
        logs.configure(level, self._settings.log.format, f"tier {self._tier}")

    async def _on_settings(self, offered: Any, sender: Sender) -> list[str]:
        """Take over from reloaded settings what can change live; what operators set for this process goes before it."""
        taken = Settings.received(self._settings.transferable() | offered)
        self._settings = taken
        self._take_log()
        if self._careful() is None:
            await self._take_prefetch()
        return ["log.level", "log.format", "prefetch"]

    async def _inflight(self, _: Any, sender: Sender) -> dict[str, Any]:
        works = self._room.works
        return {"works": [self._shown(work) for work in works[-MOST_WORKS:]], "total": len(works)}

    def _shown(self, work: Work) -> dict[str, Any]:
        notification = work.notification
        return {
            "notification": notification.id if notification else None,
            "merchant": notification.merchant if notification else None,
            "url": notification.url if notification else None,
            "tier": self._tier,
            "attempt": notification.attempt if notification else None,
            "since": None if work.called_at is None else _moment(work.called_at),
            "state": "calling" if work.calling else "waiting" if work.called_at is None else "settling",
        }

    def _choose(self, name: str, target: str, value: Any) -> None:
        if value is None:
            self._chosen[name].pop(target, None)
        else:
            self._chosen[name][target] = value

    def _narrowest(self, name: str, otherwise: Any) -> Any:
        chosen = self._chosen[name]
        return next((chosen[address] for address in self._addresses if address in chosen), otherwise)


def _check(name: str, value: Any) -> None:
    """None takes back what was set. Raises InvalidInput."""
    match name:
        case "prefetch" | "concurrency":
            good = isinstance(value, int) and 1 <= value <= MOST
            wanted = f"a whole number from 1 to {MOST}"
        case "rate":
            good = isinstance(value, int | float) and 0 < value <= MOST_RATE
            wanted = f"a number above 0 and at most {MOST_RATE:,}"
        case _:
            raise InvalidInput(
                f"there is no {name!r} to set in a tier process: possible are prefetch, concurrency and rate"
            )
    if value is not None and (isinstance(value, bool) or not good):
        raise InvalidInput(f"{name} is {wanted}, not {str(value)[:50]!r}")


def addresses_of(slot: str, tier: str) -> Sequence[str]:
    """Under which names an operator reaches a tier process, the narrowest first."""
    return tuple(dict.fromkeys((slot, f"tier:{tier}", "tier", "all")))


def _is_on(value: Any, word: str) -> bool:
    """Whether an override is in force: `true`, or an object in which `word` is not false; cleared is None."""
    return bool(value.get(word, True)) if isinstance(value, Mapping) else bool(value)


def _parts(key: str) -> tuple[str, str, str]:
    """`set/TARGET/NAME`; a target holds no slash."""
    first, _, rest = key.partition("/")
    target, _, name = rest.partition("/")
    return first, target, name


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
