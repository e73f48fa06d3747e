"""A master inside the test's event loop, with toy children; everything that happens can be waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from notifier.supervision.departure import Limits
from notifier.supervision.incarnation import Program
from notifier.supervision.master import Master, Reload

TOY = str(Path(__file__).with_name("child.py"))
OPERABLE = str(Path(__file__).with_name("operable.py"))
#: No test waits longer for anything, seconds.
PATIENCE = 30.0
#: Far beyond the patience: a test that passes did not get there by such a deadline.
NEVER = 3600.0
PATIENT = Limits(start=NEVER, drain=NEVER, term=NEVER, quick=NEVER, warn=NEVER, silence=NEVER, unread=NEVER)

T = TypeVar("T")


def programs(*toys: str, ranks: Sequence[int] = ()) -> list[Program]:
    """One program per toy, `behaviour word word …`, in the slots toy:0, toy:1 …

    They are in the groups `toy` and, by their numbers, `even` or `odd`. ranks: of each, else 0.
    """
    return [
        Program(
            f"toy:{number}",
            (sys.executable, *_words(toy)),
            {"number": number},
            groups=("toy", "odd" if number % 2 else "even"),
            rank=ranks[number] if ranks else 0,
        )
        for number, toy in enumerate(toys)
    ]


def _words(toy: str) -> list[str]:
    behaviour, *words = toy.split()
    return [OPERABLE, *words] if behaviour == "operable" else [TOY, behaviour, *words]


class Stage:
    """events, lines and announced hold what happened so far, in order."""

    def __init__(
        self,
        *toys: str,
        limits: Limits = PATIENT,
        ranks: Sequence[int] = (),
        directory: Path | None = None,
        reload: Reload | None = None,
    ) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[tuple[str, str]] = []
        self.announced: list[str] = []
        self._happened = asyncio.Event()
        self.master = Master(
            programs(*toys, ranks=ranks),
            limits,
            runtime_directory=directory,
            reload=reload,
            on_event=self._on_event,
            on_line=self._on_line,
            announce=self._on_announce,
            signals=(),
        )
        self.running: asyncio.Task[int]

    async def __aenter__(self) -> Stage:
        self.running = asyncio.create_task(self.master.run())
        self.running.add_done_callback(lambda _: self._happened.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def event(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first event of that name with these fields, once it has happened."""
        return await self._until(
            f"event {name} {fields}",
            lambda: next((told for seen, told in self.events if seen == name and fields.items() <= told.items()), None),
        )

    async def line(self, text: str, slot: str = "toy:0", *, times: int = 1) -> str:
        """The line so many children in that slot printed, beginning with `text`, once it is there."""
        return await self._until(
            f"line {text!r} ×{times}", lambda: ([*self.said(text, slot), None][times - 1 :] or [None])[0]
        )

    async def ready(self) -> None:
        """All children are ready for the first time."""
        await self._until("ready", lambda: self.master.all_ready.is_set() or None)

    async def code(self) -> int:
        """The master's exit code, once it has ended by itself."""
        return await self._until("the end", lambda: self.running.result() if self.running.done() else None)

    async def until(self, look: Callable[[], T | None]) -> T:
        """What `look` finds, looked for after everything that happens."""
        return await self._until("what was looked for", look)

    def results(self, answer: Mapping[str, Any]) -> list[str]:
        """What came of a push or a restart in each slot."""
        return [slot["result"] for slot in answer["slots"]]

    async def stopped(self) -> int:
        """Stop it once; its exit code."""
        self.master.stop()
        return await self.code()

    def said(self, text: str, slot: str = "toy:0") -> list[str]:
        """The lines so far that the children in a slot printed, beginning with `text`."""
        return [line for where, line in self.lines if where == slot and line.startswith(text)]

    def told(self, name: str) -> list[dict[str, Any]]:
        """The events so far of that name."""
        return [fields for seen, fields in self.events if seen == name]

    @property
    def pids(self) -> list[int]:
        """Of all children that ever were."""
        return [fields["pid"] for name in ("child.started", "child.restarted") for fields in self.told(name)]

    async def _until(self, what: str, look: Callable[[], T | None]) -> T:
        try:
            async with asyncio.timeout(PATIENCE):
                while (found := look()) is None:
                    self._happened.clear()
                    await self._happened.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"{what} did not come; {self.events=} {self.lines=} {self.announced=}") from None

    def _on_event(self, name: str, /, level: int = 0, **fields: Any) -> None:
        self.events.append((name, fields))
        self._happened.set()

    def _on_line(self, slot: str, line: str) -> None:
        self.lines.append((slot, line))
        self._happened.set()

    def _on_announce(self, line: str) -> None:
        self.announced.append(line)
        self._happened.set()


def alive(pid: int) -> bool:
    """Whether there is such a process, and not merely its zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.asynccontextmanager
async def watching(pid: int) -> AsyncIterator[asyncio.Event]:
    """An event that is set when the process has ended, whoever its parent is."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    fd = os.pidfd_open(pid)
    loop.add_reader(fd, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)
