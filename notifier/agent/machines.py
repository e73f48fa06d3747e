"""The machines of a fleet, as their announcements tell. Pure; the caller brings the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Seconds between two announcements of a machine.
EVERY = 5.0
#: Seconds without a word after which a machine is forgotten.
FORGOTTEN = 20.0
#: Machines that are remembered; more than a fleet has, so that a fault cannot fill the memory.
MOST = 1000


@dataclass(slots=True)
class Machine:
    """One service that announces itself. instance: of its agent, new at each start. met, heard: the first and the last
    time that it was heard, by this machine's clock. state: what it says about itself, opaque.
    """

    name: str
    instance: str
    state: Mapping[str, Any]
    met: float
    heard: float


class Machines:
    """Those that are alive: heard within `FORGOTTEN` seconds, and since another agent of the same name appeared.

    A machine whose agent was started again has a new instance, and its former one is silent from then on; if both go
    on speaking, two services have the same name.
    """

    def __init__(self) -> None:
        self._known: dict[str, Machine] = {}

    def hear(self, name: str, instance: str, state: Mapping[str, Any], now: float) -> None:
        """It announced itself."""
        known = self._known.get(instance)
        if known is None and len(self._known) < MOST:
            self._known[instance] = Machine(name, instance, state, now, now)
        elif known is not None:
            known.name, known.state, known.heard = name, state, now

    def leave(self, instance: str) -> None:
        """It said goodbye."""
        self._known.pop(instance, None)

    def alive(self, now: float) -> list[Machine]:
        """By name."""
        for machine in [machine for machine in self._known.values() if now - machine.heard > FORGOTTEN]:
            del self._known[machine.instance]
        return sorted(self._alive(), key=lambda machine: (machine.name, machine.met))

    def of(self, instance: str) -> Machine | None:
        """The one with this instance, if it was heard."""
        return self._known.get(instance)

    def _alive(self) -> Iterator[Machine]:
        appeared: dict[str, float] = {}
        for machine in self._known.values():
            appeared[machine.name] = max(machine.met, appeared.get(machine.name, machine.met))
        for machine in self._known.values():
            if machine.heard >= appeared[machine.name]:
                yield machine
