"""How a notification comes in: validated once, given an id, published to its first tier, accepted after the confirm."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from notifier import logs
from notifier.broker.publisher import Publisher, fresh_message_id
from notifier.broker.topology import Topology
from notifier.delivery.facts import Recorder
from notifier.domain import fact, wire
from notifier.domain.ladder import Ladder, named
from notifier.domain.notification import (
    Notification,
    check_addressee,
    check_id,
    check_reference,
    fresh_id,
    is_traceparent,
)
from notifier.domain.tier import Tier
from notifier.errors import InvalidNotification
from notifier.settings import Settings

#: Bytes of payloads whose `accepted` fact is still on its way; a producer that is faster waits for the ledger queue.
_MOST_UNTOLD = 16 * 1024 * 1024
#: Characters; a longer one, or one with control characters, would not come through `wire.read` as it went in.
_MOST_CONTENT_TYPE = 128


def compose(
    settings: Settings,
    *,
    merchant: str,
    payload: bytes,
    url: str | None = None,
    ladder: str | None = None,
    notification_id: str | None = None,
    reference: str | None = None,
    content_type: str = "application/json",
    traceparent: str | None = None,
) -> Notification:
    """A notification from what a producer states. Everything is checked here, once, before anything is sent.

    ladder: a name or tiers spelled out; None is the default ladder. notification_id: None gives a fresh one.
    Raises InvalidNotification, InvalidLadder (also for tiers that no process serves).
    """
    if len(payload) > settings.payload_limit:
        raise InvalidNotification(
            f"the payload holds {len(payload):,} bytes; at most {settings.payload_limit:,} are accepted "
            "(NOTIFIER_PAYLOAD_LIMIT)"
        )
    if traceparent is not None and not is_traceparent(traceparent):
        raise InvalidNotification(f"{traceparent!r} is not a W3C traceparent")
    if not content_type.isascii() or not content_type.isprintable() or not 0 < len(content_type) <= _MOST_CONTENT_TYPE:
        raise InvalidNotification(
            f"{content_type!r:.80} is not a content type: 1 to {_MOST_CONTENT_TYPE} printable ASCII characters "
            "are possible"
        )
    chosen: Ladder = settings.default_ladder if ladder is None else named(ladder, settings.named_ladders)
    return Notification(
        id=fresh_id() if notification_id is None else check_id(notification_id),
        merchant=check_addressee(merchant),
        payload=payload,
        content_type=content_type,
        url=None if url is None else settings.egress.urls.check(url),
        ladder=chosen.require(settings.tiers),
        reference=None if reference is None else check_reference(reference),
        traceparent=traceparent,
    )


class Entrance:
    """Where producers of ours hand in notifications; hundreds of calls may be in flight at once.

    clock: Unix seconds. Flush it to be sure that the advisory `accepted` facts are out as well.
    """

    def __init__(
        self,
        topology: Topology,
        publisher: Publisher,
        recorder: Recorder,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._topology = topology
        self._publisher = publisher
        self._recorder = recorder
        self._clock = clock
        self._telling: set[asyncio.Task[None]] = set()
        self._untold = 0
        self._told = asyncio.Event()

    async def accept(self, notification: Notification) -> Notification:
        """Return once it is accepted: the broker confirmed it. The result carries its moments.

        Raises Unroutable and PublishRefused; it is not accepted then. Calling it again may make a duplicate, with
        the same id, when the first call was cut off before its confirm arrived.
        """
        assert notification.ladder is not None
        while self._untold > _MOST_UNTOLD:
            self._told.clear()
            await self._told.wait()
        tier = notification.ladder[notification.step]
        now_ms = int(self._clock() * 1000)
        waiting = replace(notification, enqueued_at=now_ms, due_at=now_ms + tier.milliseconds)
        await self._publisher.publish_by(self._topology.way(tier), wire.write(waiting, fresh_message_id()))
        self._tell(waiting, tier, now_ms)
        return waiting

    async def flush(self) -> None:
        """Return when all `accepted` facts are confirmed."""
        while self._telling:
            await asyncio.wait(self._telling)

    def _tell(self, notification: Notification, tier: Tier, now_ms: int) -> None:
        size = len(notification.payload) + 1024  # and its headers

        def told(telling: asyncio.Task[None]) -> None:
            self._telling.discard(telling)
            self._untold -= size
            self._told.set()
            if not telling.cancelled() and (error := telling.exception()):
                logs.event("untold", logging.ERROR, notification=notification.id, why=str(error))

        telling = asyncio.create_task(self._recorder.record(fact.accepted(notification, tier, now_ms)))
        self._telling.add(telling)
        self._untold += size
        telling.add_done_callback(told)
