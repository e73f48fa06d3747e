"""The two sides: how each is started, and how a message to it looks."""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks import bare_loop
from benchmarks.load import Item
from notifier.cli.sending import MOST
from notifier.domain.signature import Secret
from notifier.settings import Settings

#: The one tier of both sides, and its delay in seconds.
TIER, DELAY = bare_loop.TIER, 1.0

#: Of the one service that is measured at a time; gone with this process.
_RUNTIME = tempfile.TemporaryDirectory(prefix="notifier-bench-")


class Side(Protocol):
    """One of the two. Both use the same names on the broker, each in a namespace of its own."""

    @property
    def name(self) -> str:
        """What it is called in the table."""

    @property
    def namespace(self) -> str:
        """First part of its names on the broker."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Settings of its processes."""

    @property
    def has_master(self) -> bool:
        """Whether the process that is started only watches over the one that works."""

    def enqueue(self, file: Path) -> list[str]:
        """The command that hands in the lines of a file and prints each id once it is confirmed."""

    def work(self) -> list[str]:
        """The command that delivers until SIGTERM."""

    def headers(self, item: Item, due_ms: int) -> dict[str, str | int]:
        """Headers of a message to its wait exchange. due_ms: Unix milliseconds."""


@dataclass(frozen=True)
class Notifier:
    """The real thing, with its defaults but for the ladder. runtime: directory of its control socket."""

    broker: str
    namespace: str
    name: str = "notifier"
    has_master: bool = True
    ladder: str = TIER
    runtime: str = _RUNTIME.name
    secret: str = field(default_factory=lambda: Secret(secrets.token_bytes(32)).text, repr=False)

    @property
    def environment(self) -> Mapping[str, str]:
        """The receiver is on the loopback interface, which the guard refuses by itself."""
        return {
            "NOTIFIER_AMQP_URL": self.broker,
            "NOTIFIER_NAMESPACE": self.namespace,
            "NOTIFIER_LADDER": self.ladder,
            "NOTIFIER_SIGNING_SECRET": self.secret,
            "NOTIFIER_EGRESS__ALLOW": "127.0.0.0/8",
            "NOTIFIER_RUNTIME_DIR": self.runtime,
        }

    def enqueue(self, file: Path) -> list[str]:
        """`notifier enqueue --file`."""
        return [sys.executable, "-m", "notifier", "enqueue", "--file", str(file)]

    def work(self) -> list[str]:
        """`notifier run`: the master and one tier process."""
        return [sys.executable, "-m", "notifier", "run", "--no-agent", "--no-api"]

    def headers(self, item: Item, due_ms: int) -> dict[str, str | int]:
        """As `notifier enqueue` writes them."""
        return {
            "v": 1,
            "notification": item.id,
            "merchant": item.merchant,
            "url": item.url,
            "ladder": TIER,
            "step": 0,
            "attempt": 1,
            "run": 0,
            "enqueued-at": due_ms - int(DELAY * 1000),
            "due-at": due_ms,
        }


@dataclass(frozen=True)
class Bare:
    """benchmarks/bare_loop.py, with as many in flight as notifier has."""

    broker: str
    namespace: str
    name: str = "bare loop"
    has_master: bool = False

    @property
    def environment(self) -> Mapping[str, str]:
        """It has no settings."""
        return {}

    def enqueue(self, file: Path) -> list[str]:
        """The loop's own publisher."""
        return [sys.executable, bare_loop.__file__, "enqueue", self.broker, self.namespace, str(file), str(MOST)]

    def work(self) -> list[str]:
        """The loop itself."""
        prefetch = Settings.model_fields["prefetch"].default
        return [sys.executable, bare_loop.__file__, "work", self.broker, self.namespace, str(prefetch)]

    def headers(self, item: Item, due_ms: int) -> dict[str, str | int]:
        """All that it reads."""
        return {"notification": item.id, "url": item.url}


def side(name: str, broker: str, namespace: str) -> Side:
    """One of the two by its short name: `notifier` or `bare`."""
    return Notifier(broker, namespace) if name == "notifier" else Bare(broker, namespace)
