"""How a process ended, in words."""

from __future__ import annotations

import signal
from dataclasses import dataclass

#: EX_CONFIG of sysexits.h: the process cannot start, and starting it again cannot help.
CANNOT_START = 78


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one incarnation of a child.

    code: as the operating system tells it, negative for a signal; None if it could not be started at all.
    why: what the master had against it, if the master ended it.
    """

    code: int | None
    why: str | None = None

    @property
    def clean(self) -> bool:
        """It ended by itself with success."""
        return self.code == 0 and self.why is None

    def __str__(self) -> str:
        said = self._code()
        return f"{self.why} ({said})" if self.why else said

    def _code(self) -> str:
        if self.code is None:
            return "could not be started"
        if self.code >= 0:
            return f"exit code {self.code}"
        if -self.code == signal.SIGKILL and self.why is None:
            return "SIGKILL by someone else: out of memory?"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"
