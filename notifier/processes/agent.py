"""What the agent is made of: one per machine, for what must be done once.

It writes facts into the ledger, keeps the merchant registry, releases what is held, and knows the other machines. It
works with the database down as well: then facts wait in the broker, and the registry is the copy of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop
from setproctitle import setproctitle

from notifier import logs
from notifier.agent import breakers, giving_up, overflow
from notifier.agent.allowance import Allowance
from notifier.agent.breakers import Breakers
from notifier.agent.cancelling import Cancelling
from notifier.agent.desk import Desk
from notifier.agent.fleet import Fleet
from notifier.agent.giving_up import GivingUp
from notifier.agent.intake import Intake
from notifier.agent.keeping import Keeper
from notifier.agent.marking import Marker
from notifier.agent.operator_events import OperatorEvents
from notifier.agent.overflow import Overflows
from notifier.agent.pace import Pace
from notifier.agent.registrar import Registrar
from notifier.agent.release import Release
from notifier.agent.replaying import Replaying
from notifier.agent.sharing import Sharing
from notifier.agent.watched import watched
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance
from notifier.delivery.breaker import PROBE_GRACE, longest
from notifier.delivery.facts import Recorder
from notifier.domain.merchant import Merchant
from notifier.errors import RegistryUnreadable
from notifier.ledger import leases, merchants
from notifier.ledger.late import LateDatabase
from notifier.ledger.pruning import Pruner
from notifier.ledger.writing import FactWriter
from notifier.processes.living import live, started
from notifier.processes.log_control import LogControl
from notifier.processes.record_watch import RecordWatch
from notifier.registry.cache import Registry
from notifier.registry.replica import FILE, ReplicaWriter
from notifier.settings import Settings
from notifier.supervision.child import Parent

#: The key of the desired state that says how far the registry is.
REGISTRY = "registry"
#: Seconds that this machine's processes get to live by a change.
PUSH = 5.0
#: What is added to its niceness: when the processor is short, deliveries that are due come before the books about them.
BEHIND = 5
#: Seconds over which the rate of facts is taken.
_SPAN = 5.0


class AgentProcess:
    """The parts of the agent and the order in which they start and stop."""

    def __init__(self, parent: Parent, settings: Settings) -> None:
        self._parent = parent
        self._settings = settings
        topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
        state_dir = Path(settings.state_dir)
        self._blocked: dict[str, object] = {}
        self._began = logs.moment(int(time.time() * 1000))
        self._counted: deque[tuple[float, int]] = deque(maxlen=int(_SPAN) + 1)
        self._database = LateDatabase(settings.database)
        self._registry = Registry(state_dir)
        self._publisher = Publisher(settings.amqp_urls, topology, "agent publish")
        self._watch = RecordWatch(parent, settings, topology)
        self._recorder = Recorder(self._publisher, topology)
        self._writer = FactWriter(self._database, self._on_exhausted)
        marker = Marker(self._writer, self._recorder)
        self._fleet = Fleet(settings, topology, self._machine_state, self._on_registry, self._on_verb)
        self._registrar = Registrar(
            self._database, ReplicaWriter(state_dir / FILE), self._push, self._fleet.changed, time.time, settings
        )
        self._breakers = Breakers(time.time, longest(settings.breaker) + settings.egress.timeout + PROBE_GRACE)
        allowance = Allowance(settings.isolation, self._breakers, time.time)
        self._intake = Intake(
            settings.amqp_urls,
            topology,
            self._publisher,
            self._writer,
            self._switch_off,
            stored=allowance.heard,
            available=self._database.heard,
        )
        pace = Pace(settings.release_rate)
        publishing = (self._database, self._publisher, topology, marker, pace, self._merchant)
        self._sharing = Sharing(settings.machine, self._fleet.tell, time.time)
        self._overflows = Overflows(self._database, self._clear, self._set, time.monotonic)
        self._release = Release(
            *publishing,
            allowance,
            lambda merchant: merchant in self._blocked,
            settings.default_ladder,
            settings.tiers,
            needs_url=settings.callback is None,
            clock=time.time,
            holds=self._holds,
        )
        self._replaying = Replaying(
            *publishing, settings.default_ladder, settings.tiers, clock=time.time, holds=self._holds
        )
        holder = leases.fresh_holder(settings.machine)
        failing = GivingUp(
            self._database,
            self._registrar.gone,
            settings.breaker.disable_after,
            up_for=self._database.up_for,
            clock=time.time,
            holds=self._holds,
        )
        entrance = Entrance(topology, self._publisher, self._recorder)
        self._operator_events = OperatorEvents(parent, settings, self._database, entrance, self._holds)
        further = {"giving up": (giving_up.EVERY, failing.round), **self._operator_events.rounds}
        self._keeper = Keeper(self._database, self._release, self._replaying, self._prune, holder, further=further)
        self._pruner = Pruner(self._database, settings.retention)
        self._desk = Desk(
            settings,
            self._database,
            self._registrar,
            self._fleet,
            self._replaying,
            Cancelling(
                self._database, self._registrar, marker, self._merchant, settings.default_ladder, clock=time.time
            ),
            entrance,
        )
        self._log = LogControl(parent, "agent", settings)
        self._watching: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Start, work until told to drain, stop. Facts that are not stored by then stay with the broker."""
        try:
            if await started(self._parent, self._start()):
                await self._parent.ready()
                await self._parent.draining.wait()
                logs.event("drain")
        finally:
            await self._stop()

    async def _start(self) -> None:
        """The registry comes first: the tier processes wait for it. The broker may be away for long."""
        self._parent.statistics = self.statistics
        await self._log.follow()
        await self._parent.follow(self._on_block, "block/")
        await self._operator_events.follow()
        await self._parent.follow(self._on_breaker, breakers.PREFIX)
        await self._parent.follow(self._on_overflow, overflow.PREFIX)
        self._desk.serve(self._parent)
        await self._database.start()
        await self._registrar.start()
        self._watching.append(watched("registry news", self._watch_registry))
        self._look_again()
        await self._publisher.start(waiting=self._parent.progress)
        await self._watch.start(waiting=self._parent.progress)
        await self._fleet.start(waiting=self._parent.progress)
        await self._intake.start(waiting=self._parent.progress)
        self._watching.append(watched("overflow", self._overflows.watch))
        self._watching.append(watched("breakers for other machines", self._sharing.run))
        self._keeper.start()
        self._operator_events.start()

    async def _stop(self) -> None:
        await self._watch.close()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._keeper.close()
        await self._intake.close()
        await self._operator_events.close()
        await self._registrar.close()
        await self._fleet.close()
        await self._recorder.close()
        await self._publisher.close()
        await self._database.close()
        self._registry.close()

    async def _watch_registry(self) -> None:
        """What changed in the registry may let held notifications go."""
        while True:
            await self._registrar.changed.wait()
            self._registrar.changed.clear()
            self._look_again()
            self._keeper.wake()

    def _look_again(self) -> None:
        try:
            self._registry.refresh(0)
        except RegistryUnreadable as error:
            logs.event("registry.unreadable", why=str(error))

    async def _push(self, word: Mapping[str, Any], critical: bool) -> Sequence[Mapping[str, Any]]:
        value = {**word, "run": self._parent.boot["run"]}
        body = {"key": REGISTRY, "value": value, "timeout": PUSH, "critical": critical}
        pushed = await self._parent.control("push", body, timeout=PUSH + 2)
        return list(pushed["slots"])

    async def _on_registry(self, version: int, critical: bool) -> Mapping[str, Any]:
        return await self._registrar.follow(version, critical)

    async def _on_verb(self, verb: str, body: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        with self._sharing.heard(verb, body):
            return await self._parent.control(verb, body, timeout=timeout)

    async def _on_block(self, key: str, value: Any) -> None:
        """Overrides of this machine: what they hold would be held again at once."""
        merchant = key.removeprefix("block/")
        if value and not (isinstance(value, Mapping) and not value.get("blocked", True)):
            self._blocked[merchant] = value
        else:
            self._blocked.pop(merchant, None)
            self._keeper.wake()

    async def _on_breaker(self, key: str, value: Any) -> None:
        """A breaker opened, closed, or is being tried, on this machine or another. When one may go to try it is found
        out in the next round; where that is at once, now: it has its turn for a moment only.
        """
        self._breakers.follow(key, value)
        self._sharing.follow(key, value)
        if self._breakers.is_soon(key.removeprefix(breakers.PREFIX)):
            self._keeper.wake()

    async def _on_overflow(self, key: str, value: Any) -> None:
        """A tier process has no room for a merchant, or has again: something will be held, and may go on soon."""
        self._overflows.follow(key, value)
        self._keeper.wake()

    async def _clear(self, key: str) -> None:
        await self._parent.control("clear", {"key": key, "timeout": PUSH}, timeout=PUSH + 2)

    async def _set(self, key: str, value: Any, seconds: float) -> None:
        body = {"key": key, "value": value, "for": seconds, "timeout": PUSH}
        await self._parent.control("push", body, timeout=PUSH + 2)

    async def _switch_off(self, fact: Mapping[str, Any]) -> None:
        """A `stopped` fact: the merchant's endpoint is gone for good."""
        headers = fact.get("headers")
        url = headers.get("url") if isinstance(headers, Mapping) else None
        merchant, at = fact.get("merchant"), fact.get("at")
        if isinstance(merchant, str) and isinstance(at, int):
            await self._registrar.gone(merchant, url, at, str(fact.get("reason") or "410 Gone"))

    def _on_exhausted(self, facts: Sequence[Mapping[str, Any]]) -> None:
        self._operator_events.exhausted(facts)

    def _holds(self) -> bool:
        return self._keeper.holds

    async def _prune(self) -> bool:
        now_ms = int(time.time() * 1000)
        await merchants.forget_cancellations(self._database, now_ms)
        return bool(await self._pruner.prune(now_ms))

    def _merchant(self, merchant: str) -> Merchant | None:
        """As it is known here and now."""
        registered = self._registry.get(merchant) if self._registry.stand is not None else None
        if registered is None:
            return None
        return registered.at(int(time.time() * 1000), self._settings.ack_rule, self._settings.secrets)

    def _machine_state(self) -> Mapping[str, Any]:
        return {"since": self._began, "registry": self._registrar.version}

    def statistics(self) -> dict[str, Any]:
        """For the heartbeat."""
        stale = self._registrar.stale_since
        return {
            **self._database.state(),
            "facts": self._intake.facts,
            "facts_per_s": self._facts_per_s(),
            "poisoned": self._intake.poisoned,
            "registry": {
                "version": self._registrar.version,
                "stale_since": None if stale is None else logs.moment(stale),
            },
            "keeper": self._keeper.holds,
            "held": self._keeper.held,
            "released": self._release.released,
            "fleet": self._fleet.machines(),
            "fleet_dropped": self._fleet.dropped,
            "link": "up" if self._intake.connected and self._publisher.connected else "down",
        }

    def _facts_per_s(self) -> float:
        """Over the last seconds; this is called once in each."""
        now = time.monotonic()
        self._counted.append((now, self._intake.facts))
        since, before = self._counted[0]
        return 0.0 if now <= since else round((self._intake.facts - before) / (now - since), 1)


def _step_back() -> None:
    """When the processor is short, what is due comes first: it has the greater share of it, and this process does not
    take it away from others in the moment in which it has something to do.
    """
    os.nice(BEHIND)
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # a sandbox may refuse it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(slot: str, epoch: int, fd: int) -> int:
    """The whole life of the agent; returns its exit code. fd: this end of the pipe to the master."""
    setproctitle("notifier: agent")
    _step_back()
    return uvloop.run(live(fd, slot, epoch, "agent", AgentProcess))
