"""What a tier process is made of. One per tier and partition: it consumes its work queue, runs callbacks, settles."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from dataclasses import replace
from typing import Any

import uvloop
from setproctitle import setproctitle

from notifier import logs
from notifier.bounded import holding_on
from notifier.broker.consumer import Consumer, Delivery
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.breaker import PROBE_GRACE, Breakers
from notifier.delivery.callback import Callback, UserCallback
from notifier.delivery.careful import PREFETCH, CarefulStart
from notifier.delivery.delivery import DeliveryRoom
from notifier.delivery.facts import Recorder
from notifier.delivery.failpoints import fail_points
from notifier.domain.merchant import Merchant
from notifier.domain.tier import Tier
from notifier.errors import PeerGone
from notifier.extensions.loading import load
from notifier.extensions.running import Extensions
from notifier.processes.living import live, started
from notifier.processes.record_watch import RecordWatch
from notifier.processes.staffing import Post
from notifier.processes.tier_control import TierControl, addresses_of
from notifier.processes.tier_registry import TierRegistry
from notifier.processes.tier_sharing import TierSharing
from notifier.settings import Settings
from notifier.supervision.child import Parent
from notifier.webhook.client import Webhook

_DESCRIPTORS = 65_536


class TierProcess:
    """The parts of one tier process and the order in which they start and stop."""

    def __init__(self, parent: Parent, post: Post, slot: str, epoch: int, settings: Settings) -> None:
        self._parent = parent
        self._settings = settings
        self._post = post
        tier = post.tier
        topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
        name = f"tier {post.name}"
        self._publisher = Publisher(settings.amqp_urls, topology, f"{name} publish")
        self._recorder = Recorder(self._publisher, topology)
        self._extensions = Extensions(load(settings.extension_modules, slot, epoch, parent), parent, slot, epoch)
        self._callback = self._chosen_callback()
        self._registry = TierRegistry(parent, settings, lambda: self._room)
        self._sharing = TierSharing(parent, slot, tier.name, lambda: self._room)
        self._room = DeliveryRoom(
            tier,
            settings.tiers,
            settings.default_ladder,
            topology,
            self._publisher,
            self._recorder,
            self._callback,
            self._merchant,
            most_payload=settings.payload_limit,
            cancelled=self._registry.cancelled,
            isolation=settings.isolation,
            prefetch=settings.prefetch,
            breakers=Breakers(
                settings.breaker,
                settings.egress.timeout + PROBE_GRACE,
                self._sharing.breaker_changed,
                self._sharing.suspected,
            ),
            overflowed=self._sharing.overflowed,
            strict=settings.strict_order,
            unforeseen=self._extensions.exception,
            points=fail_points(slot),
        )
        self._careful = self._careful_start()
        self._careful_time: asyncio.Task[None] | None = None
        self._consumer = Consumer(
            settings.amqp_urls,
            topology,
            topology.work_queue(tier, post.partition),
            PREFETCH if self._careful else settings.prefetch,
            self._on_delivery,
            f"{name} consume",
            own=topology.working(tier, post.partition) if post.retired else None,
        )
        self._watch = RecordWatch(parent, settings, topology) if parent.boot.get("watch") else None
        self._control = TierControl(
            parent,
            post.name,
            addresses_of(slot, tier.name),
            settings,
            self._room,
            self._consumer,
            self._publisher,
            lambda: self._careful,
        )

    async def run(self) -> None:
        """Start, work until told to drain, stop. Everything unsettled at the end stays with the broker."""
        try:
            if await started(self._parent, self._start()):
                await self._parent.ready()
                await self._extensions.ready()
                await self._work()
                await self._drain()
        finally:
            await self._stop()

    async def _work(self) -> None:
        """Return when told to drain. Raises what broke off the careful time: what comes would wait for it for ever."""
        draining = asyncio.create_task(self._parent.draining.wait())
        waiting: set[asyncio.Task[Any]] = {draining}
        if self._careful_time is not None:
            waiting.add(self._careful_time)
        try:
            while not draining.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        finally:
            draining.cancel()

    async def _start(self) -> None:
        """What operators want is in force before the first delivery, and the merchants are known."""
        await self._control.follow()
        self._parent.statistics = self.statistics
        await self._registry.follow()
        await self._registry.arrived(self._parent.progress)
        await self._sharing.follow()
        await self._extensions.start()
        await self._callback.start()
        await self._publisher.start(waiting=self._parent.progress)
        if self._watch is not None:
            await self._watch.start(self._parent.progress)
        if self._careful is not None:
            self._careful_time = asyncio.create_task(self._be_careful(self._careful))
        await self._consumer.start(waiting=self._parent.progress)
        self._control.started()

    async def _drain(self) -> None:
        """Stop taking, finish what runs up to the deadline, leave the rest unacknowledged.

        In strict order nobody else may take while something of ours runs, so the consumer stays until the connection
        ends; what it gets meanwhile is laid aside.
        """
        logs.event("drain", in_flight=len(self._room))
        self._control.end()
        if self._careful_time is not None:
            self._careful_time.cancel()
        self._room.shut()
        if not self._room.strict:
            await self._consumer.stop_taking()
        await self._room.give_back()
        finishing = asyncio.create_task(self._finish())
        hurry = asyncio.create_task(self._parent.quick.wait())
        await asyncio.wait(
            [finishing, hurry], timeout=self._settings.drain_timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for waiting in (finishing, hurry):
            waiting.cancel()
        left = await self._room.abandon()
        logs.event("drained", logging.WARNING if left else logging.INFO, left_to_others=left or None)

    async def _finish(self) -> None:
        await asyncio.gather(self._room.drained(), self._extensions.drain())

    async def _stop(self) -> None:
        if self._careful_time is not None:
            self._careful_time.cancel()
        if self._watch is not None:
            await self._watch.close()
        await self._consumer.close()
        await self._room.abandon()
        await self._recorder.close()
        await self._publisher.close()
        await self._callback.close()
        await self._sharing.close()
        await self._extensions.stop(hurried=self._parent.quick.is_set())
        self._registry.close()

    def _on_delivery(self, delivery: Delivery) -> None:
        if self._careful is not None:
            self._careful.take(delivery)
        else:
            self._room.take(delivery)

    def _careful_start(self) -> CarefulStart | None:
        if not self._parent.careful:
            return None
        logs.event("careful", logging.WARNING, hint="the process before this one died; looking for the reason")
        return CarefulStart(self._room, self._parent, self._parent.deaths, strict=self._parent.careful > 1)

    async def _be_careful(self, careful: CarefulStart) -> None:
        try:
            await careful.run(self._consumer.taking)
        except PeerGone:
            return  # so this process drains: nothing more is taken
        self._careful = None  # what waits there untouched is delivered again on the wider connection
        await self._control.widen()

    def statistics(self) -> dict[str, Any]:
        """For the heartbeat."""
        return {
            **self._control.statistics(),
            "registry": self._registry.statistics(),
            "retired": self._post.retired,
        }

    def _merchant(self, merchant: str) -> Merchant:
        """As the registry has it, and as this machine's operators override that."""
        return self._control.standing(self._registry.merchant(merchant))

    def _is_withheld(self, merchant: str) -> bool:
        return self._control.is_blocked(merchant) or self._registry.is_off(merchant)

    def _chosen_callback(self) -> Callback:
        if self._settings.callback is not None:
            return UserCallback(self._settings.callback, self._settings.egress.timeout, self._extensions.exception)
        return Webhook(self._settings.egress, withheld=self._is_withheld)


def main(tier: str, partition: int | None, slot: str, epoch: int, fd: int) -> int:
    """The whole life of a tier process; returns its exit code. fd: this end of the pipe to the master."""
    post = Post(Tier.parse(tier), partition, retired=False)
    setproctitle(f"notifier: tier {post.name}")
    _allow_many_connections()
    return uvloop.run(_lived(post, slot, epoch, fd))


def _allow_many_connections() -> None:
    """A callback is a socket, and a soft limit of 1,024, common for services, is less than two prefetches of 2,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _lived(post: Post, slot: str, epoch: int, fd: int) -> int:
    def made(parent: Parent, settings: Settings) -> TierProcess:
        serving = replace(post, retired=bool(parent.boot.get("retired")))
        return TierProcess(parent, serving, slot, epoch, settings)

    code = await live(fd, slot, epoch, f"tier {post.name}", made)
    await asyncio.sleep(0)  # what was just cut ends here
    if holding_on():  # everything of ours is closed
        logs.event("extension.abandoned", logging.WARNING, hint="a hook, schedule or callback goes on after its cut")
        os._exit(code)
    return code
