"""What a simulated merchant does, attempt by attempt: `ok,500,timeout`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from notifier.errors import InvalidInput

_STATUS = re.compile(r"[1-5][0-9]{2}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
#: Statuses that come with `Retry-After`.
_WITH_RETRY_AFTER = (429, 503)


@dataclass(frozen=True, slots=True)
class Word:
    """One answer. name: as written in a script. status: what is answered, None where no HTTP answer is completed.

    seconds: the delay of `slow`, the `Retry-After` of 429 and 503.
    """

    name: str
    status: int | None
    seconds: float | None = None

    #: Every word that is not a status, with its status.
    NAMED: ClassVar[dict[str, int | None]] = {
        "ok": 200,
        "ok-json": 200,
        "wrong-body": 200,
        "slow": 200,
        "huge": 200,
        "redirect": 302,
        "timeout": None,
        "reset": None,
    }
    #: Seconds where the script says none.
    DEFAULT_SECONDS: ClassVar[dict[str, float]] = {"slow": 2.0, "429": 1.0, "503": 1.0}

    @classmethod
    def parse(cls, text: str) -> Word:
        """Read one word, such as `ok`, `404`, `slow:2` or `429:7`. Raises InvalidInput listing what is possible."""
        name, colon, stated = text.strip().partition(":")
        if name not in cls.NAMED and not _STATUS.fullmatch(name):
            raise InvalidInput(
                f"{text.strip()!r} is not an answer: possible are {', '.join(cls.NAMED)} and any status, 100 to 599"
            )
        status = cls.NAMED[name] if name in cls.NAMED else int(name)
        if not colon:
            return cls(name, status, cls.DEFAULT_SECONDS.get(name))
        if name not in cls.DEFAULT_SECONDS:
            raise InvalidInput(f"{text.strip()!r}: only {', '.join(cls.DEFAULT_SECONDS)} take seconds after a colon")
        if not _SECONDS.fullmatch(stated) or (status in _WITH_RETRY_AFTER and "." in stated):
            kind = "whole seconds" if status in _WITH_RETRY_AFTER else "seconds"
            raise InvalidInput(f"{text.strip()!r}: write {kind} after the colon, such as {name}:2")
        return cls(name, status, float(stated))

    @property
    def retry_after(self) -> int | None:
        """Whole seconds of the `Retry-After` header that goes with it."""
        return int(self.seconds) if self.status in _WITH_RETRY_AFTER and self.seconds is not None else None

    def __str__(self) -> str:
        shown = self.seconds is not None and self.seconds != self.DEFAULT_SECONDS[self.name]
        return f"{self.name}:{self.seconds:g}" if shown else self.name


@dataclass(frozen=True, slots=True)
class Script:
    """Answers in turn, one per attempt of a notification; the last one repeats."""

    words: tuple[Word, ...]

    @classmethod
    def parse(cls, text: str) -> Script:
        """Read `ok,500,slow:2`. Raises InvalidInput naming the word that cannot be read."""
        parts = [part for part in text.replace(",", " ").split() if part]
        if not parts:
            raise InvalidInput("a script names at least one answer, such as ok or 500,timeout,ok")
        return cls(tuple(Word.parse(part) for part in parts))

    def word(self, turn: int) -> Word:
        """The answer to the turn-th request of a notification, counted from 0."""
        return self.words[min(turn, len(self.words) - 1)]

    def __str__(self) -> str:
        return ",".join(str(word) for word in self.words)
