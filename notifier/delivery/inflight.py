"""What this process has in its hands, so that a redelivery is adopted instead of being called again.

When a connection is lost the broker delivers everything unacknowledged again, while coroutines and unsettled decisions
are still here. A redelivery that belongs to one of them replaces its stale delivery; one whose work was settled
meanwhile, with an acknowledgement that could not arrive, is acknowledged at once.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from notifier.broker.consumer import Delivery
from notifier.domain.wire import Message

#: Settled messages that are remembered; only those of the last moments before a lost connection can come again.
_REMEMBERED = 10_000


class Work:
    """One message being worked on. delivery: the newest; earlier ones are stale."""

    __slots__ = ("delivery", "key")

    def __init__(self, key: str, delivery: Delivery) -> None:
        self.key = key
        self.delivery = delivery


def key_of(message: Message) -> str:
    """What tells a message from every other: its message_id, unique per publish, else all of its contents."""
    if message.message_id:
        return message.message_id
    seen = hashlib.sha256(message.body)
    seen.update(repr((message.correlation_id, sorted(message.headers.items(), key=lambda item: item[0]))).encode())
    return seen.hexdigest()


class InFlight:
    """The works of this process, and the keys of those it settled last."""

    def __init__(self) -> None:
        self._works: dict[str, list[Work]] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> list[str]:
        """Keys of all works."""
        return list(self._works)

    def take(self, delivery: Delivery) -> Work | None:
        """A new work for this delivery, or None when it was adopted by one that is here."""
        key = key_of(delivery.message)
        if delivery.redelivered:
            for work in self._works.get(key, ()):
                if work.delivery.stale and work.delivery.message.body == delivery.message.body:
                    work.delivery = delivery
                    return None
        work = Work(key, delivery)
        self._works.setdefault(key, []).append(work)
        self._count += 1
        return work

    def was_settled(self, delivery: Delivery) -> bool:
        """Whether this is a message that was settled here and whose acknowledgement did not arrive."""
        return bool(delivery.redelivered and delivery.message.message_id in self._settled)

    def drop(self, work: Work) -> None:
        """The work is over: settled, or given back unacknowledged."""
        works = self._works[work.key]
        works.remove(work)
        if not works:
            del self._works[work.key]
        self._count -= 1

    def remember(self, work: Work) -> None:
        """The work was settled. Contents are no proof that two messages are one, so only a message_id counts."""
        if work.delivery.message.message_id:
            self._settled[work.key] = None
            if len(self._settled) > _REMEMBERED:
                self._settled.popitem(last=False)
