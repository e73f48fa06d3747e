"""What a command tells on stderr: sentences for people, and a line that moves while it works on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_EVENTS = {
    "broker.lost": "the connection to RabbitMQ was lost ({reason}); making it again, nothing accepted is lost",
    "broker.unreachable": "waiting for RabbitMQ, {tried_s:.0f} s so far: {why}",
    "broker.connected": "connected to RabbitMQ at {address}",
    "publish.waiting": "RabbitMQ does not confirm: {unconfirmed} wait, the oldest for {oldest_s:.0f} s ({hint})",
    "publish.resumed": "RabbitMQ confirms again",
}


class Telling:
    """Speaks on stderr. A reader of stderr that left is no reason to stop working."""

    def __init__(self) -> None:
        self._moving: tuple[Progress, TaskID] | None = None

    def say(self, text: str) -> None:
        """One message, above the moving line if there is one."""
        with suppress(OSError):
            for line in text.splitlines():
                if self._moving is not None:
                    self._moving[0].console.print(f"notifier: {line}", markup=False, highlight=False, soft_wrap=True)
                else:
                    typer.echo(f"notifier: {line}", err=True)

    def start_moving(self, total: int | None) -> None:
        """Show a moving line, on a terminal that is not busy with stdout. total: bytes to read, where known."""
        if sys.stderr is None or not sys.stderr.isatty() or (sys.stdout is not None and sys.stdout.isatty()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        bar = [BarColumn(bar_width=24, complete_style="cyan", finished_style="cyan")] if total else []
        progress = Progress(
            SpinnerColumn(style="cyan"),
            *bar,
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._moving = (progress, progress.add_task("connecting", total=total))
        progress.start()

    def move(self, text: str, done: int) -> None:
        """Change the moving line. Cheap: the terminal is painted ten times a second, whatever happens here."""
        if self._moving is not None:
            progress, task = self._moving
            progress.update(task, description=text, completed=done)

    def stop_moving(self) -> None:
        """Take the moving line away. Twice is fine."""
        if self._moving is not None:
            moving, self._moving = self._moving, None
            with suppress(OSError):
                moving[0].stop()

    def listen(self) -> None:
        """Tell what the broker's client reports (connections lost and made) as sentences."""
        logger = logging.getLogger("notifier")
        logger.handlers[:] = [_Sentences(self)]
        logger.propagate = False
        logger.setLevel(logging.INFO)


class _Sentences(logging.Handler):
    """Events of the code below as sentences; the same one at most once a second.

    Without a connection nothing can be confirmed, so that is not told besides.
    """

    def __init__(self, telling: Telling) -> None:
        super().__init__()
        self._telling = telling
        self._last = ("", 0.0)
        self._away = False

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        if record.getMessage() in ("broker.lost", "broker.connected"):
            self._away = record.getMessage() == "broker.lost"
        elif self._away and record.getMessage().startswith("publish."):
            return
        said = _sentence(record)
        last, at = self._last
        if said == last and time.monotonic() - at < 1:
            return
        self._last = (said, time.monotonic())
        self._telling.say(said)


def _sentence(record: logging.LogRecord) -> str:
    fields: dict[str, Any] = getattr(record, "fields", {})
    name = record.getMessage()
    if name in _EVENTS:
        return _EVENTS[name].format(**fields)
    return " ".join([name, *(f"{field}={value}" for field, value in fields.items() if value is not None)])
