"""Brings one process to the desired state and keeps it there.

One batch is under way at a time, and the next one is made when its answer is here. So a slow process gets only the
newest value of each key, costs the master nothing meanwhile, and "applied" is always something that it said itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from notifier.errors import BadFrame, BadState, ChildFailed, PeerGone
from notifier.supervision.channel import Body
from notifier.supervision.desired import Desired

#: Seconds after which a key that a process could not apply is sent to it again.
AGAIN = 5.0
#: Seconds for the answer to one batch. Who takes longer is either hung, which its heartbeat shows, or gets it again.
BATCH_TIMEOUT = 60.0


class Ask(Protocol):
    """How the process is asked; `Channel.ask` has this shape."""

    async def __call__(self, name: str, body: Body | None = None, *, timeout: float) -> Body:
        """The answer, or a ChildFailed."""


@dataclass(slots=True)
class _Waiter:
    key: str
    version: int
    settled: asyncio.Future[int]


class Feed:
    """The desired state on its way to one process. Run it as a task; `close` it when the process is over.

    applied: the version that the process has, None before the first answer. errors: the keys that it could not apply,
    with its sentence; they are sent again every `AGAIN` seconds. drifts: how often it had lost what it had.
    """

    def __init__(self, desired: Desired, ask: Ask) -> None:
        self.applied: int | None = None
        self.errors: dict[str, str] = {}
        self.drifts = 0
        self._desired = desired
        self._ask = ask
        self._sent = 0
        self._whole = True
        self._changed = asyncio.Event()
        self._waiters: list[_Waiter] = []
        self._closed: str | None = None

    async def run(self) -> None:
        """Send what is new, until the process is gone. Raises BadFrame if it answers what is no answer."""
        with contextlib.suppress(PeerGone):
            while True:
                if not self._whole and self._sent >= self._desired.version:
                    await self._wait()
                self._changed.clear()
                await self._send_batch()

    def poke(self) -> None:
        """The desired state has changed."""
        self._changed.set()

    def heard(self, version: int) -> bool:
        """The process says by its heartbeat which version it has; True if it lost some, which is repaired now."""
        if self.applied is None or version >= self.applied or self._whole:
            return False
        self.drifts += 1
        self._send_whole()
        return True

    @property
    def known(self) -> int:
        """The version up to which the process needs no gravestone any more."""
        return 0 if self._whole else self._sent

    async def reached(self, key: str, version: int) -> int:
        """Wait until the process has applied this version of the key or a newer one; returns the version that it has.

        Raises BadState with its sentence if it could not, PeerGone when it is over. Cancel it to stop waiting.
        """
        if self._closed is not None:
            raise PeerGone(self._closed)
        waiter = _Waiter(key, version, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            return await waiter.settled
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def close(self, reason: str) -> None:
        """The process is over: whoever waits for it hears so. Twice is fine."""
        self._closed = self._closed or reason
        for waiter in self._waiters:
            if not waiter.settled.done():
                waiter.settled.set_exception(PeerGone(reason))
        self._waiters.clear()

    async def _wait(self) -> None:
        """Until something changed, or it is time to try again what failed."""
        try:
            async with asyncio.timeout(AGAIN if self.errors else None):
                await self._changed.wait()
        except TimeoutError:
            self._send_whole()

    def _send_whole(self) -> None:
        self._sent, self._whole = 0, True
        self._changed.set()

    async def _send_batch(self) -> None:
        whole, first = self._whole, self._whole and self._sent == 0
        entries, version = self._desired.batch(self._sent)
        last = version >= self._desired.version
        said = [{"key": entry.key, "value": entry.value, "version": entry.version} for entry in entries]
        body = {"entries": said, "version": version, "whole": whole, "first": first, "last": last}
        try:
            failed = _errors(await self._ask("state", body, timeout=BATCH_TIMEOUT))
        except (PeerGone, BadFrame):
            raise
        except ChildFailed as error:  # not answered, or refused as a whole: what the process has is unknown
            await asyncio.sleep(1)
            self.errors.update({entry.key: str(error) for entry in entries})
            self._send_whole()
            return
        self._note(failed, {entry.key for entry in entries}, first=first)
        self._sent = version
        if last:
            self._whole = False
        if not self._whole:
            self.applied = version
        self._settle({entry.key: entry.version for entry in entries}, last=last)

    def _note(self, failed: dict[str, str], sent: set[str], *, first: bool) -> None:
        kept = {} if first else {key: said for key, said in self.errors.items() if key not in sent}
        self.errors = kept | failed

    def _settle(self, versions: Mapping[str, int], *, last: bool) -> None:
        """Tell those who wait for what the process has now. last: it has everything up to the version sent."""
        left = []
        for waiter in self._waiters:
            if waiter.version > (self._sent if last else versions.get(waiter.key, 0)):
                left.append(waiter)
            elif waiter.settled.done():
                continue
            elif waiter.key in self.errors:
                waiter.settled.set_exception(BadState(self.errors[waiter.key]))
            else:
                waiter.settled.set_result(self._sent)
        self._waiters = left


def _errors(answer: Body) -> dict[str, str]:
    match answer:
        case {"errors": dict(errors)} if all(isinstance(sentence, str) for sentence in errors.values()):
            return errors
    raise BadFrame(f"it answered a state with {sorted(answer)[:5]}")
