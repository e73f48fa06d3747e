"""The line to the master of a running service: one connection per command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import typer

from notifier import runtime
from notifier.errors import NoMaster, NotifierError, PeerGone
from notifier.supervision.channel import Body
from notifier.supervision.operator import Operator

#: Seconds for what the master answers from what it has at hand, or with a deadline of its own below this.
PROMPT = 60.0
#: Seconds for what waits for processes to finish: as long as their own deadlines, which the master keeps, may add up.
PATIENT = 24 * 3600.0

T = TypeVar("T")


class Asking(Protocol):
    """Who can be asked: the master here, or by way of the fleet the one of another machine."""

    async def ask(self, verb: str, body: Mapping[str, Any] | None = None, *, timeout: float = 30.0) -> Body:
        """Send a request; see `Operator.ask`."""


def talk(work: Callable[[Operator], Awaitable[T]]) -> T:
    """Connect, do this, and let go. Raises NoMaster if no service is running, and what the master answers instead."""
    return asyncio.run(_talk(work))


async def entries(operator: Asking) -> list[dict[str, Any]]:
    """All that operators have set, in the order in which it was."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = await operator.ask("state", {"after": after}, timeout=PROMPT)
        found += page["entries"]
        after = page["version"]
        if page["complete"]:
            return found


def print_json(value: Mapping[str, Any]) -> None:
    """JSON for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def complain(sentence: str) -> None:
    """One line on stderr."""
    typer.echo(f"notifier: {sentence}", err=True)


async def _talk(work: Callable[[Operator], Awaitable[T]]) -> T:
    async with _connected() as operator:
        try:
            return await work(operator)
        except PeerGone as error:
            raise NotifierError(
                f"the service ended before it answered ({error}); `notifier ctl status` tells whether it is back"
            ) from None


@asynccontextmanager
async def _connected() -> AsyncIterator[Operator]:
    try:
        operator = await Operator.connect(runtime.directory())
    except NoMaster as error:
        raise NoMaster(
            f"{error}. Which directory it is comes from NOTIFIER_RUNTIME_DIR, else from user and NOTIFIER_NAMESPACE, "
            "as for the service itself"
        ) from None
    try:
        yield operator
    finally:
        await operator.close()
