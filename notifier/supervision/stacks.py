"""What a process is doing just now: the stacks of its threads and of its asyncio tasks.

Two ways. A process whose event loop turns is asked, and tells its tasks as well. One that is stuck gets a signal, on
which faulthandler writes its threads into a file that the master gave it, even while a C call holds the interpreter's
lock; a file and no pipe, so that nobody has to read it for the writing to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import io
import os
import signal
import sys
import tempfile
import traceback

#: On this one a child writes its stacks. Python programs seldom use it for something else.
SIGNAL = signal.SIGUSR2
#: Characters of stacks that are kept and shown; fits into a frame.
LIMIT = 120_000


class Sheet:
    """The file for one child, held by the master. `close` it; twice is fine."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="stacks")  # noqa: SIM115 - it lives as long as the child

    def fileno(self) -> int:
        """For the child to inherit."""
        return self._file.fileno()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return 0 if self._file.closed else os.fstat(self._file.fileno()).st_size

    def text(self, since: int = 0) -> str:
        """What was written after the first `since` bytes."""
        if self._file.closed:
            return ""
        return os.pread(self._file.fileno(), LIMIT, since).decode("utf-8", "replace")

    def close(self) -> None:
        """Forget it."""
        self._file.close()


def write_on_signal(fd: int) -> None:
    """In the child: from now on the signal writes all threads' stacks to this inherited descriptor."""
    os.set_inheritable(fd, False)
    with contextlib.suppress(OSError):
        os.lseek(fd, 0, os.SEEK_END)
    faulthandler.register(SIGNAL, file=fd, all_threads=True)


def of_this_process() -> str:
    """The stacks of all threads and all tasks. Call it in the event loop."""
    said = io.StringIO()
    for number, frame in sys._current_frames().items():
        said.write(f"thread {number}\n{''.join(traceback.format_stack(frame))}\n")
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        task.print_stack(file=said)
        said.write("\n")
    return said.getvalue()[:LIMIT]
