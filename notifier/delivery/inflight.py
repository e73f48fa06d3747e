"""What this process has in its hands, so that a redelivery is adopted instead of being called again.

When a connection is lost the broker delivers everything unacknowledged again, while coroutines and unsettled decisions
are still here. A redelivery that belongs to one of them replaces its stale delivery; one whose work was settled
meanwhile, with an acknowledgement that could not arrive, is acknowledged at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator

from notifier.broker.consumer import Delivery
from notifier.domain import wire
from notifier.domain.notification import Notification
from notifier.domain.wire import Message

#: Settled messages that are remembered; only those of the last moments before a lost connection can come again.
_REMEMBERED = 10_000


class Work:
    """One message being worked on.

    delivery: the newest; earlier ones are stale. notification: once it was read. called_at: Unix seconds at which its
    callback started, None before. calling: that runs just now. called: for whoever waits until it does not.
    """

    __slots__ = ("called", "called_at", "calling", "delivery", "key", "notification")

    def __init__(self, key: str, delivery: Delivery) -> None:
        self.key = key
        self.delivery = delivery
        self.notification: Notification | None = None
        self.called_at: float | None = None
        self.calling = False
        self.called: asyncio.Future[None] | None = None

    def call_started(self, now: float) -> None:
        """Its callback runs from here on."""
        self.called_at, self.calling = now, True

    def call_ended(self) -> None:
        """Its callback is over."""
        self.calling = False
        if self.called is not None and not self.called.done():
            self.called.set_result(None)


def key_of(message: Message) -> str:
    """What tells a message from every other, now and when it is delivered again: its message_id and its contents.

    The id alone does not: it is unique per publish where we publish, not where a foreign producer puts its order
    number there. What the broker adds to the headers of a redelivery does not count.
    """
    headers = sorted(wire.portable(message.headers).items(), key=lambda header: header[0])
    seen = hashlib.blake2b(message.body, digest_size=16)
    seen.update(repr((message.message_id, message.correlation_id, message.content_type, headers)).encode())
    return f"{(message.message_id or 'no-id')[:64]}:{seen.hexdigest()}"


class InFlight:
    """The works of this process, and the keys of those it settled last."""

    def __init__(self) -> None:
        self._works: dict[str, list[Work]] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def works(self) -> Iterator[Work]:
        """All works, those taken last at the end."""
        for works in self._works.values():
            yield from works

    def calling(self, merchant: str) -> list[asyncio.Future[None]]:
        """One future for each callback to this merchant that runs now, done when that is over."""
        running = []
        for work in self.works:
            if work.calling and work.notification is not None and work.notification.merchant == merchant:
                work.called = work.called or asyncio.get_running_loop().create_future()
                running.append(work.called)
        return running

    @property
    def keys(self) -> list[str]:
        """Keys of all works."""
        return list(self._works)

    def take(self, delivery: Delivery) -> Work:
        """A new work for this delivery."""
        work = Work(key_of(delivery.message), delivery)
        self._works.setdefault(work.key, []).append(work)
        self._count += 1
        return work

    def adopted(self, delivery: Delivery) -> bool:
        """Whether a work that is here and whose delivery went stale took this one in its place."""
        if not delivery.redelivered:
            return False
        stale = [work for work in self._works.get(key_of(delivery.message), ()) if work.delivery.stale]
        if stale:
            stale[0].delivery = delivery
        return bool(stale)

    def was_settled(self, delivery: Delivery) -> bool:
        """Whether this is a message that was settled here and whose acknowledgement did not arrive.

        Without a message_id equal contents are no proof that two messages are one.
        """
        return bool(delivery.redelivered and delivery.message.message_id and key_of(delivery.message) in self._settled)

    def remember(self, work: Work) -> None:
        """The work was settled."""
        self._settled[work.key] = None
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)

    def drop(self, work: Work) -> None:
        """The work is over: settled, or given back unacknowledged."""
        works = self._works[work.key]
        works.remove(work)
        if not works:
            del self._works[work.key]
        self._count -= 1
