"""A fault: what it is called, where it strikes, and the one function that does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from tests.faults.around import Surrounding
from tests.faults.field import Field
from tests.faults.verdict import Window

#: Injects the fault once, asserts that it bit, ends it, and says when it struck. number: of this repeat, from 0.
#: Raises DidNotBite.
Strike = Callable[[Field, int], Awaitable[Window]]


@dataclass(frozen=True, slots=True)
class Fault:
    """name: in the table. through_line: service and load reach the broker by a line that can be harmed. api: the
    service has its HTTP API. cluster: the broker is a cluster of three. settings: further variables of the service's
    environment. repeats: of the full run. around: what else it needs, see `around`. per_second: notifications, None
    for as many as for most. long: takes minutes, so it is not begun last.
    """

    name: str
    strike: Strike
    through_line: bool = False
    api: bool = False
    cluster: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    repeats: int = 10
    around: Surrounding | None = None
    per_second: int | None = None
    long: bool = False
