"""What the routes work with: made once by the process, found by every request in `app.state.parts`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from notifier.api.activity import Activity
from notifier.api.depths import Depths
from notifier.api.door import LedgerDoor
from notifier.api.given_up import GivenUp
from notifier.api.totals import Totals
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.delivery.acceptance import Entrance
from notifier.delivery.facts import Recorder
from notifier.ledger.database import Database
from notifier.registry.cache import Registry
from notifier.settings import Settings
from notifier.supervision.child import Parent


@dataclass(slots=True)
class Parts:
    """line: to the master and through it to the other processes. clock: Unix seconds. closing: set when this process
    drains, so that what streams comes to its end. activity: what this process itself has done, for its heartbeat.
    given_up: what requests left on its way to the broker.
    """

    settings: Settings
    line: Parent
    topology: Topology
    publisher: Publisher
    recorder: Recorder
    entrance: Entrance
    door: LedgerDoor
    registry: Registry
    depths: Depths
    totals: Totals
    clock: Callable[[], float] = time.time
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    activity: Activity = field(default_factory=Activity)
    given_up: GivenUp = field(default_factory=GivenUp)

    @property
    def database(self) -> Database:
        """The ledger's database. Raises DatabaseUnavailable with the reason while it is not open."""
        return self.door.database

    @property
    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(self.clock() * 1000)


def parts_of(request: Request) -> Parts:
    """The parts of the application that a request came to."""
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


async def _given(request: Request) -> Parts:
    return parts_of(request)


#: What a route declares to get them: `async def show(parts: Given) -> …`. Asynchronous: else FastAPI takes a thread.
Given = Annotated[Parts, Depends(_given)]
