"""A whole service, some of whose merchants hang: what the others notice of it. Explained in docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pace, proc
from benchmarks.api import LADDER, Whole
from benchmarks.broker import Broker
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import count, lateness_ms
from benchmarks.hanging import Hanging, open_hanging
from benchmarks.host import Watch, open_watch
from benchmarks.isolation_figures import Apart, Healthy, Late
from benchmarks.isolation_load import Mixed, mixed
from benchmarks.load import Item
from benchmarks.machine import Others
from benchmarks.receiver import Receiver
from benchmarks.run import Plan, participants
from benchmarks.service import Service, open_service
from benchmarks.service_log import ServiceLog
from notifier.domain.ladder import PRESETS

#: Seconds after the last healthy arrival until every notification to a hanging merchant was attempted or held: a
#: callback takes 10 s to be given up.
_PATIENCE = 40.0
_LOOK = 0.2


@dataclass(frozen=True)
class Isolated(Whole):
    """As anyone starts it, but for the log, which a program reads here."""

    @property
    def environment(self) -> dict[str, str]:
        """In JSON."""
        return {**super().environment, "NOTIFIER_LOG__FORMAT": "json"}

    def headers(self, item: Item, due_ms: int) -> dict[str, str | int]:
        """Without a ladder of their own: what fails climbs the default one."""
        return {name: value for name, value in super().headers(item, due_ms).items() if name != "ladder"}


class IsolationRun:
    """One run. name: of the namespace. hang: whether every tenth merchant does. directory: to be made."""

    def __init__(self, name: str, plan: Plan, hang: bool, broker: Broker, receiver: Receiver, directory: Path) -> None:
        self._name = name
        self._plan = plan
        self._hang = hang
        self._broker = broker
        self._receiver = receiver
        self._directory = directory
        self._side = Isolated(broker.url, f"bench-{name}", ladder=LADDER, runtime=str(directory / "run"))
        self._before = receiver.look()
        self._log, self._position = ServiceLog(), 0

    async def measure(self) -> Healthy:
        """Everything, in order.

        Raises BenchmarkFailed if a healthy notification was lost, doubled, early or held, or if it cannot be said of a
        hanging merchant's notification what became of it.
        """
        self._directory.mkdir()
        try:
            async with open_hanging(self._directory) as hanging, open_watch(self._directory) as watch:
                others = Others([*participants(self._broker, self._receiver), hanging.pid])
                sent = self._sent(hanging)
                async with open_service(self._side, self._directory) as service:
                    pids = await service.pids()
                    spent = proc.cpu_seconds(pids)
                    due, published_per_s = await self._publish(sent)
                    await self._receiver.until(self._before + len(self._answered(sent)), service.require_alive)
                    cpu_ms = (proc.cpu_seconds(pids) - spent) * 1000 / len(due)
                    await self._accounted(sent, service)
                    log = service.log
                self._read(log)
                self._check(sent, due, hanging)
                return self._figures(sent, due, published_per_s, cpu_ms, others.share, watch)
        finally:
            await self._broker.forget(self._side.namespace, sorted(set(PRESETS[LADDER])))

    def _sent(self, hanging: Hanging) -> Mixed:
        others_url = hanging.url if self._hang else self._receiver.url
        return mixed(self._name, self._plan.steady_count, self._receiver.url, others_url)

    async def _publish(self, sent: Mixed) -> tuple[dict[str, float], float]:
        """The due moments, and how many were published a second."""
        began = time.monotonic()
        due = await pace.publish_steadily(self._broker.url, self._side, sent.all, self._plan.rate)
        return due, len(due) / (time.monotonic() - began)

    def _answered(self, sent: Mixed) -> list[Item]:
        """Those that arrive at the receiver that answers."""
        return [*sent.healthy, *([] if self._hang else sent.others)]

    async def _accounted(self, sent: Mixed, service: Service) -> None:
        """Wait until each was attempted or held. The log is looked at a few times a second."""
        deadline = time.monotonic() + _PATIENCE
        while not self._log.accounted(item.id for item in sent.all):
            service.require_alive()
            if time.monotonic() > deadline:
                missing = [item.id for item in sent.all if not self._log.accounted([item.id])]
                raise BenchmarkFailed(
                    f"isolation: {len(missing):,} notifications (such as {missing[0]}) were neither attempted nor held "
                    f"{_PATIENCE:.0f} s after the last healthy one had arrived"
                )
            await asyncio.sleep(_LOOK)
            self._read(service.log)

    def _read(self, log: Path) -> None:
        """What is new in it, as far as it is whole lines."""
        with log.open("rb") as said:
            said.seek(self._position)
            new = said.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._position += len(whole)
        self._log.read(whole.decode(errors="replace").splitlines())

    def _check(self, sent: Mixed, due: Mapping[str, float], hanging: Hanging) -> None:
        """After the end of the service: nothing comes any more."""
        self._receiver.look()
        expected = [item.id for item in self._answered(sent)]
        wrong = count(expected, due, self._receiver.arrivals[self._before :]).wrong
        if wrong is not None:
            raise BenchmarkFailed(f"isolation, healthy merchants: {wrong}")
        others = [item.id for item in sent.others] if self._hang else []
        for wrong in (self._log.held_among(expected), self._log.untrue_of(others, hanging.requests())):
            if wrong is not None:
                raise BenchmarkFailed(f"isolation: {wrong}")

    def _figures(
        self,
        sent: Mixed,
        due: Mapping[str, float],
        published_per_s: float,
        cpu_ms: float,
        others_share: float,
        watch: Watch,
    ) -> Healthy:
        ids = [item.id for item in sent.healthy]
        late = self._log.late_of(ids)
        of_healthy = {each: due[each] for each in ids}
        received = lateness_ms(of_healthy, self._receiver.arrivals[self._before :])
        return Healthy(
            sent=len(ids),
            arrived=len(received),
            started=Late.of(late),
            received=Late.of(received),
            published_per_s=published_per_s,
            cpu_ms=cpu_ms,
            others_share=others_share,
            apart=self._apart(sent) if self._hang else None,
            stood=watch.stood(due, dict(zip(ids, late, strict=True))),
            piece_us=watch.piece_us(due),
        )

    def _apart(self, sent: Mixed) -> Apart:
        ids = {item.id for item in sent.others}
        return Apart(
            sent=len(ids),
            attempted=len(ids & self._log.late_ms.keys()),
            held=len(ids & self._log.held.keys()),
            attempts=sum(often for (each, _), often in self._log.attempts.items() if each in ids),
            reasons=dict(self._log.reasons),
            opened=len(self._log.opened),
        )
