"""What the tier processes of a machine tell each other about merchants, as keys of the desired state.

    breaker/MERCHANT          the state of its breaker, see `Breakers.told`; cleared when it closes
    overflow/TIER/MERCHANT    some of its notifications had no room in that tier and are held: newer ones wait behind
                              them. Cleared by the agent when they have gone their way

Keys, not messages: a process that was started again knows them, and operators see them and may clear them. They end by
themselves after a while, so that nothing waits for ever for a process that is gone.

What a key says is true for all, in the order in which the master took it, whoever said it: two processes may find
opposite things at the same moment, and if each believed itself, what one holds would wait for a breaker that no other
takes for open. Only while this process has something to say of a key, others' older news of it are not heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from notifier import logs
from notifier.delivery.breaker import ALIKE
from notifier.delivery.delivery import DeliveryRoom
from notifier.errors import NotifierError, RequestFailed
from notifier.supervision.actions import Sender
from notifier.supervision.child import Parent

#: Seconds after which an overflow is over, if no agent says so.
OVERFLOW = 300.0
#: Seconds that a key of a breaker outlives the moment of its next probe.
BREAKER = 600.0
#: What a tier process asks the others of a merchant that fails.
COUNTS = "breaker.counts"
#: Seconds that they get for it.
_PATIENCE = 2.0
#: How often who does not answer is asked again: what it would say may be all that speaks for the merchant. One that is
#: dead for longer must not keep breakers closed.
_PATIENT = 4
#: Seconds before what could not be told is told again.
_AGAIN = 1.0
#: Seconds that the other processes get to take over a key before the next one is told. It is on its way to them all the
#: same: one that stands still must not keep the others from the next.
_APPLIED = 1.0


class TierSharing:
    """This process's part in it. `follow` before the first delivery; `close` twice is fine.

    room: whose lanes and breakers they are. clock: Unix seconds.
    """

    def __init__(
        self,
        parent: Parent,
        slot: str,
        tier: str,
        room: Callable[[], DeliveryRoom],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._parent = parent
        self._slot = slot
        self._tier = tier
        self._room = room
        self._clock = clock
        self._untold: dict[str, tuple[Mapping[str, Any] | None, float]] = {}
        self._being_told: str | None = None
        self._ours: dict[str, Mapping[str, Any]] = {}  # what keys say since this process said it
        self._telling: asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}  # by merchant

    async def follow(self) -> None:
        """Take over what the others know, and every change from now on; answer what is counted here."""
        self._parent.on(COUNTS, self._on_counts)
        await self._parent.follow(self._on_breaker, "breaker/")
        await self._parent.follow(self._on_overflow, f"overflow/{self._tier}/")

    def breaker_changed(self, merchant: str, value: Mapping[str, Any] | None) -> None:
        """A breaker of this process has changed its state; None: it is closed."""
        if value is None:
            self._tell(f"breaker/{merchant}", None, 0)
            return
        seconds = max(0.0, value["until"] / 1000 - self._clock()) + BREAKER
        self._tell(f"breaker/{merchant}", {**value, "slot": self._slot, "tier": self._tier}, seconds)

    def overflowed(self, merchant: str) -> None:
        """A lane of this process has begun to overflow."""
        logs.event("overflow", logging.WARNING, merchant=merchant, tier=self._tier)
        value = {"since": int(self._clock() * 1000), "slot": self._slot}
        self._tell(f"overflow/{self._tier}/{merchant}", value, OVERFLOW)

    def suspected(self, merchant: str) -> bool:
        """By what is counted here it fails: what do the other tiers say? False: they are being asked already."""
        if merchant in self._asking:
            return False
        asking = self._asking[merchant] = asyncio.create_task(self._ask_others(merchant))
        asking.add_done_callback(lambda _: self._asked(merchant))
        return True

    def _asked(self, merchant: str) -> None:
        del self._asking[merchant]
        self._room().breakers.answered(merchant)

    async def close(self) -> None:
        """What is not told by now stays untold."""
        telling, self._telling = self._telling, None
        tasks = [*self._asking.values(), *([telling] if telling is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_others(self, merchant: str) -> None:
        """Open its breaker when it fails; of who acknowledges some, a while later once more. Who does not answer is
        waited for.
        """
        breakers = self._room().breakers
        doubted, unanswered = False, 0
        try:
            while True:
                elsewhere, all_answered = await self._elsewhere(merchant)
                if not breakers.fails(merchant, *elsewhere):
                    return
                if not all_answered and unanswered < _PATIENT:
                    unanswered += 1
                elif all_answered and not doubted and breakers.acknowledges(merchant, *elsewhere):
                    doubted = True
                else:
                    break
                breakers.answered(merchant)  # nothing is known against it as long as that takes
                await asyncio.sleep(breakers.doubt)
        except NotifierError as error:  # it is suspected again soon, if it goes on failing
            logs.event("unshared", logging.WARNING, key=f"breaker/{merchant}", why=str(error))
            return
        breakers.judge(merchant, *elsewhere)

    async def _elsewhere(self, merchant: str) -> tuple[tuple[int, int, float | None], bool]:
        """What the other tier processes have counted, for `Breakers.judge`, and whether all of them answered."""
        told, all_answered = await self._counted(merchant)
        over = min((each["over"] for each in told if "over" in each), default=None)
        if over is not None and any(each.get("over", over) > over + ALIKE for each in told):
            told, all_answered = await self._counted(merchant, over)
        failed, of = (int(sum(each[what] for each in told)) for what in ("failed", "of"))
        return (failed, of, over), all_answered

    async def _counted(self, merchant: str, over: float | None = None) -> tuple[list[Mapping[str, float]], bool]:
        """What the other tier processes have counted, those of them that answer, and whether all did. over: within so
        many seconds; None: within the window.
        """
        asked = {"merchant": merchant} if over is None else {"merchant": merchant, "over": over}
        replies = await self._parent.ask("tier", COUNTS, asked, timeout=_PATIENCE)
        others = [reply for reply in replies if reply.slot != self._slot]
        return [reply.data for reply in others if reply.result == "done"], all(
            reply.result == "done" for reply in others
        )

    async def _on_counts(self, asked: Any, sender: Sender) -> dict[str, float]:
        breakers = self._room().breakers
        failed, of = breakers.counted(str(asked["merchant"]), asked.get("over"))
        return {"failed": failed, "of": of, "over": breakers.over}

    def _tell(self, key: str, value: Mapping[str, Any] | None, seconds: float) -> None:
        """The newest of each key; one at a time."""
        self._untold[key] = (value, seconds)
        if value is None:
            self._ours.pop(key, None)
        else:
            self._ours[key] = value
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_all(), name="sharing")

    async def _tell_all(self) -> None:
        while self._untold:
            key = self._being_told = next(iter(self._untold))
            value, seconds = self._untold.pop(key)
            try:
                if value is None:
                    answer = await self._parent.control("clear", {"key": key, "timeout": _APPLIED})
                else:
                    body = {"key": key, "value": value, "for": seconds, "timeout": _APPLIED}
                    answer = await self._parent.control("push", body)
            except RequestFailed as error:  # it cannot be a key, so it will never be one
                logs.event("unshared", logging.WARNING, key=key, why=str(error))
                self._forget(key)
                continue
            except NotifierError as error:
                logs.event("unshared", logging.WARNING, key=key, why=str(error), again_s=_AGAIN)
                self._untold.setdefault(key, (value, seconds))  # unless there is something newer by now
                if self._parent.draining.is_set():
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN):
                        await self._parent.draining.wait()
                continue
            finally:
                self._being_told = None
            if self._parent.version >= answer["version"]:  # else what is not here yet is heard when it comes
                self._hear(key, self._parent.state.get(key))  # what was not heard meanwhile

    def _forget(self, key: str) -> None:
        """Nobody would ever end an overflow that nobody knows of."""
        if key.startswith("overflow/"):
            self._room().turns.drained(key.removeprefix(f"overflow/{self._tier}/"))

    async def _on_breaker(self, key: str, value: Any) -> None:
        self._hear(key, value)

    async def _on_overflow(self, key: str, value: Any) -> None:
        self._hear(key, value)

    def _hear(self, key: str, value: Any) -> None:
        """What a key says now; not heard while this process is about to change it, and is no news if it has."""
        if key in self._untold or key == self._being_told:
            return
        if value is not None and value == self._ours.get(key):
            return
        self._ours.pop(key, None)
        if key.startswith("breaker/"):
            self._room().breakers.told(key.removeprefix("breaker/"), value)
            return
        merchant = key.removeprefix(f"overflow/{self._tier}/")
        if value is None:
            self._room().turns.drained(merchant)
        else:
            self._room().turns.overflows(merchant)
