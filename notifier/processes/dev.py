"""The playground of `notifier dev`: a broker of its own, three sample merchants, and the real service between them.

Nothing here is a mock-up: the same master, the same processes, a ledger of its own (SQLite, in a directory that is gone
afterwards), the dashboard, real webhooks on the loopback interface. What is
shown is read from the service's own log lines; what the merchants saw is kept by the merchants.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from notifier.broker import source
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance, compose
from notifier.delivery.facts import Recorder
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.errors import NotifierError
from notifier.processes.service import Cast, dashboard, master_of
from notifier.settings import Settings, load
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator

#: The merchants: what they answer, attempt by attempt; the last word repeats.
SAMPLES: Mapping[str, str] = {"prompt": "ok", "flaky": "500,500,ok", "silent": "500"}

_ENDS = ("complete", "exhausted", "stopped", "poison", "held")


@dataclass(slots=True)
class Attempt:
    """One attempt, as the service told it. due, started: ISO 8601 in UTC."""

    number: int
    tier: str
    due: str | None
    started: str | None
    late_ms: float | None
    status: int | None
    error: str | None
    decision: str


@dataclass(slots=True)
class Climb:
    """One notification on its way. result: None while it climbs. due: Unix seconds of its next attempt."""

    id: str
    merchant: str
    url: str | None
    answers: str
    due: float
    attempts: list[Attempt] = field(default_factory=list)
    result: str | None = None


class Playground:
    """Everything of `notifier dev`. Made by `open_playground`.

    climbs: all notifications seen, oldest first. on_attempt: told each attempt as it happens. on_line: told every
    other line that the processes print. dashboard: its address, once the service has started.
    """

    def __init__(self, settings: Settings, broker: str, receiver: str, simulator: Simulator | None) -> None:
        self.settings = settings
        self.broker = broker
        self.receiver = receiver
        self.climbs: list[Climb] = []
        self.on_attempt: Callable[[Climb, Attempt], None] = lambda climb, attempt: None
        self.on_line: Callable[[str], None] = lambda line: None
        self._simulator = simulator
        self._by_id: dict[str, Climb] = {}
        self._changed = asyncio.Event()
        self._master = master_of(
            settings,
            Cast(),
            operable=True,
            reloadable=False,  # what the environment says is not what this playground was made with
            on_line=self._read,
            announce=lambda line: self.on_line(line),
        )
        self._running: asyncio.Task[int] | None = None
        self.dashboard: str | None = None

    async def start(self) -> None:
        """Start the service and return when every process is ready; raises what keeps it from starting."""
        self._running = asyncio.create_task(self._master.run())
        ready = asyncio.create_task(self._master.all_ready.wait())
        await asyncio.wait([self._running, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        self.dashboard = dashboard(self._master)

    @property
    def code(self) -> int | None:
        """The exit code of the service once it has ended."""
        return self._running.result() if self._running is not None and self._running.done() else None

    async def send_samples(self) -> None:
        """Register the sample merchants and hand in one notification for each."""
        for merchant in SAMPLES:
            await self._register(merchant)
        topology = Topology(self.settings.namespace, self.settings.tiers, self.settings.delay, self.settings.partitions)
        publisher = Publisher(self.settings.amqp_urls, topology, "dev")
        recorder = Recorder(publisher, topology)
        await publisher.start(self.settings.connect_timeout)
        try:
            entrance = Entrance(topology, publisher, recorder)
            for number, (merchant, answers) in enumerate(SAMPLES.items(), start=1):
                payload = json.dumps({"order": f"A-{number}", "state": "paid"}).encode()
                url = f"{self.receiver}/{merchant}"
                composed = compose(self.settings, merchant=merchant, payload=payload)
                climb = Climb(composed.id, merchant, url, answers, due=time.time())
                self._add(climb)
                accepted = await entrance.accept(composed)
                climb.due = max(climb.due, (accepted.due_at or 0) / 1000)
            await entrance.flush()
        finally:
            await recorder.close()
            await publisher.close()

    async def _register(self, merchant: str) -> None:
        """With the secret that it verifies with. Raises NotifierError with the agent's sentence."""
        fields = {"url": f"{self.receiver}/{merchant}", "secret": self.settings.secrets[0].text}
        wanted = {"op": "add", "merchant": merchant, "fields": fields, "who": "notifier dev"}
        (reply,) = await self._master.send("agent", "merchants.change", wanted)
        answer = reply.value()
        if "problem" in answer:
            raise NotifierError(f"merchant {merchant} could not be registered: {answer['problem']['detail']}")

    async def settled(self) -> None:
        """Return when no notification climbs any more, or the service ended."""
        assert self._running is not None
        while any(climb.result is None for climb in self.climbs) and not self._running.done():
            self._changed.clear()
            changed = asyncio.create_task(self._changed.wait())
            await asyncio.wait([changed, self._running], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()

    async def ended(self) -> None:
        """Return when the service has ended."""
        assert self._running is not None
        await asyncio.wait([self._running])

    async def stop(self) -> None:
        """Drain the service. Twice is fine."""
        if self._running is None:
            return
        if not self._running.done():
            self._master.stop("dev ends")
        await asyncio.wait([self._running])

    def report(self) -> dict[str, Any]:
        """What happened, as JSON values: the service's account, the merchants' own, and whether the two agree."""
        received = None if self._simulator is None else [json.loads(seen.line()) for seen in self._simulator.received]
        return {
            "broker": self.broker,
            "namespace": self.settings.namespace,
            "delay": self.settings.delay,
            "ladder": str(self.settings.default_ladder),
            "notifications": [
                {
                    "id": climb.id,
                    "merchant": climb.merchant,
                    "url": climb.url,
                    "answers": climb.answers,
                    "result": climb.result,
                    "attempts": [asdict(attempt) for attempt in climb.attempts],
                }
                for climb in self.climbs
            ],
            "receiver": {"url": self.receiver, "received": received},
            "dashboard": self.dashboard,
            "agrees": self.agrees(),
        }

    def agrees(self) -> bool | None:
        """Whether the merchants received exactly the attempts that the service tells; None for a foreign receiver."""
        if self._simulator is None:
            return None
        told = sorted((climb.id, attempt.number) for climb in self.climbs for attempt in climb.attempts)
        return told == sorted((seen.webhook_id or "", seen.attempt or 0) for seen in self._simulator.received)

    def _read(self, slot: str, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and event.get("event") == "attempt":
            self._attempted(event)
        elif isinstance(event, dict) and event.get("event") in ("held", "stopped", "poisoned"):
            self._ended_without_attempt(event)
        else:
            self.on_line(line)

    def _attempted(self, event: Mapping[str, Any]) -> None:
        climb = self._climb(event)
        attempt = Attempt(
            number=event["attempt"],
            tier=event["tier"],
            due=event.get("due"),
            started=event.get("started"),
            late_ms=None if event.get("late_ms") is None else round(event["late_ms"], 1),
            status=event.get("status"),
            error=event.get("error"),
            decision=event["decision"],
        )
        climb.attempts.append(attempt)
        if attempt.decision in _ENDS:
            climb.result = attempt.decision
        else:
            climb.due = time.time() + Tier.parse(event["next_tier"]).seconds
        self.on_attempt(climb, attempt)
        self._changed.set()

    def _ended_without_attempt(self, event: Mapping[str, Any]) -> None:
        if "notification" in event:
            self._climb(event).result = event["event"]
            self._changed.set()

    def _climb(self, event: Mapping[str, Any]) -> Climb:
        climb = self._by_id.get(event["notification"])
        if climb is None:  # enqueued by hand, from another terminal
            climb = Climb(event["notification"], event["merchant"], None, "", due=time.time())
            self._add(climb)
        return climb

    def _add(self, climb: Climb) -> None:
        self._by_id[climb.id] = climb
        self.climbs.append(climb)


@contextlib.asynccontextmanager
async def open_playground(
    told: Callable[[str], None], receiver: str | None = None, log: Path | None = None
) -> AsyncIterator[Playground]:
    """A broker, the merchants and a service that is not started yet; all gone afterwards.

    told: gets a sentence about each thing that takes time. receiver: base URL of merchants of the user's own, instead
    of the built-in ones. log: file in which the built-in merchants write what they receive.
    """
    fresh = Secret(secrets.token_bytes(24))
    with tempfile.TemporaryDirectory(prefix="notifier-dev-") as directory, _port() as port:
        async with source.open_broker(told) as broker:
            settings = load(_overrides(broker, fresh, directory, port))
            async with _merchants(receiver, settings, log) as simulator:
                address = receiver.rstrip("/") if receiver else simulator.url if simulator else ""
                playground = Playground(settings, broker.description, address, simulator)
                try:
                    yield playground
                finally:
                    await playground.stop()


@contextlib.asynccontextmanager
async def _merchants(receiver: str | None, settings: Settings, log: Path | None) -> AsyncIterator[Simulator | None]:
    if receiver is not None:
        yield None
        return
    scripts = {f"/{merchant}": Script.parse(answers) for merchant, answers in SAMPLES.items()}
    async with Simulator(scripts, secrets=settings.secrets, log=log) as simulator:
        yield simulator


def _overrides(broker: source.Broker, fresh: Secret, directory: str, port: int) -> dict[str, Any]:
    """dev needs no settings; those that are given still count, but for what a playground must have of its own."""
    return {
        "amqp_url": broker.url,
        "namespace": broker.namespace,
        "signing_secret": None if load().secrets else fresh.text,
        "egress": {"allow": "127.0.0.0/8,::1/128", "https_only": False, "ports": "1-65535"},
        "log": {"format": "json", "level": "info"},
        "runtime_dir": directory,
        "state_dir": directory,
        "database_url": f"sqlite:///{directory}/ledger.db",
        "api": {"host": "127.0.0.1", "port": port},
    }


@contextlib.contextmanager
def _port() -> Iterator[int]:
    """The dashboard's port if nobody has it, else 0, any. Other playgrounds leave it alone for the length of the block:
    whether it is free is known long before the API takes it.
    """
    wanted = load().api.port
    file = Path(tempfile.gettempdir()) / f"notifier-dev-{os.getuid()}-{wanted}.lock"
    lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield wanted if _locked(lock) and _is_free(wanted) else 0
    finally:
        os.close(lock)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what lingers of an ended one is no hindrance
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
