"""What the operators want: versioned keys, held by the master. Pure; the caller brings the time.

One version counts for all keys and only grows. A key that is cleared stays as a gravestone until no process is left
that could still hold it. So "all entries after version v, in order" brings any process from v to now, however many
changes there were in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from notifier.errors import InvalidInput
from notifier.supervision import moments

#: Characters of a key, and of who and why.
KEY_LIMIT = 256
WORDS_LIMIT = 1000
#: Bytes of a value as JSON: any entry fits into a frame together with what surrounds it.
VALUE_LIMIT = 256 * 1024
#: Bytes of entries sent in one frame, unless a single one is longer.
BATCH_BYTES = 256 * 1024
#: Keys that may be set at the same time.
KEYS_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. value: opaque; None if the key is cleared. since, until: Unix seconds; it ends by itself at `until`."""

    key: str
    value: Any
    version: int
    who: str
    why: str | None
    since: float
    until: float | None = None

    def shown(self) -> dict[str, Any]:
        """As programs see it and as it is kept in a file."""
        return {
            "key": self.key,
            "value": self.value,
            "version": self.version,
            "who": self.who,
            "why": self.why,
            "since": moments.shown(self.since),
            "until": None if self.until is None else moments.shown(self.until),
        }

    @classmethod
    def read(cls, shown: Mapping[str, Any]) -> Entry:
        """Back from what `shown` gave. Raises ValueError if it is something else."""
        match shown:
            case {
                "key": str(key),
                "value": value,
                "version": int(version),
                "who": str(who),
                "why": str() | None as why,
                "since": str(since),
                "until": str() | None as until,
            } if value is not None and version > 0:
                end = None if until is None else moments.read(until)
                return cls(key, value, version, who, why, moments.read(since), end)
        raise ValueError(f"no entry of the desired state: {str(shown)[:200]}")


class Desired:
    """The keys and their newest values."""

    def __init__(self) -> None:
        self.version = 0
        self._entries: dict[str, Entry] = {}
        self._set = 0

    def restore(self, entries: Iterable[Entry], version: int) -> None:
        """Begin with what an earlier master had kept."""
        self._entries = {entry.key: entry for entry in sorted(entries, key=lambda entry: entry.version)}
        self._set = len(self._entries)
        self.version = max([version, *(entry.version for entry in self._entries.values())])

    def push(
        self, key: str, value: Any, now: float, *, who: str, why: str | None = None, until: float | None = None
    ) -> Entry:
        """Set a key, or clear it with None. Raises InvalidInput; then nothing has changed."""
        self._check(key, value, who, why)
        if until is not None and (value is None or until <= now):
            raise InvalidInput(
                f"{key}: it would end at {moments.shown(until)}, which is over already"
                if value is not None
                else f"{key}: what is cleared has no end"
            )
        before = self._entries.pop(key, None)
        held = before is not None and before.value is not None
        if value is not None and not held and self._set >= KEYS_LIMIT:
            raise InvalidInput(f"{key}: {KEYS_LIMIT} keys are set already; clear some that nobody needs")
        self._set += (value is not None) - held
        self.version += 1
        entry = Entry(key, value, self.version, who, why, now, until)
        self._entries[key] = entry  # at the end: the keys stand in the order of their versions
        return entry

    def expire(self, now: float) -> list[Entry]:
        """Clear what has ended by itself; returns what it was."""
        over = [entry for entry in self._entries.values() if entry.until is not None and entry.until <= now]
        for entry in over:
            self.push(entry.key, None, now, who=entry.who, why="its time was over")
        return over

    @property
    def next_end(self) -> float | None:
        """When the next key ends by itself, Unix seconds."""
        return min((entry.until for entry in self._entries.values() if entry.until is not None), default=None)

    def present(self) -> list[Entry]:
        """The keys that are set, in the order of their versions."""
        return [entry for entry in self._entries.values() if entry.value is not None]

    def batch(self, after: int) -> tuple[list[Entry], int]:
        """The entries after a version, gravestones included, as many as one frame takes; and the version that a
        process has which had `after` and applies them.
        """
        batch: list[Entry] = []
        size = 0
        for entry in self._since(after):
            size += len(json.dumps(entry.value)) + 12 * len(entry.key) + 100  # a character takes 12 at most
            if batch and size > BATCH_BYTES:
                return batch, batch[-1].version
            batch.append(entry)
        return batch, self.version

    def forget(self, known: int) -> None:
        """Drop the gravestones up to a version that every living process has."""
        for entry in list(self._entries.values()):
            if entry.version > known:
                return
            if entry.value is None:
                del self._entries[entry.key]

    def _since(self, after: int) -> Iterator[Entry]:
        newest_first = []
        for entry in reversed(self._entries.values()):  # what is new is short, what there is may be long
            if entry.version <= after:
                break
            newest_first.append(entry)
        return reversed(newest_first)

    def _check(self, key: str, value: Any, who: str, why: str | None) -> None:
        if not 0 < len(key) <= KEY_LIMIT or not key.isprintable():
            raise InvalidInput(f"a key has 1 to {KEY_LIMIT} printable characters, not {key[:300]!r}")
        if len(who) > WORDS_LIMIT or len(why or "") > WORDS_LIMIT:
            raise InvalidInput(f"{key}: who and why have at most {WORDS_LIMIT} characters")
        try:
            size = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"{key}: the value cannot be written as JSON: {error}") from None
        if size > VALUE_LIMIT:
            raise InvalidInput(f"{key}: the value has {size} bytes; at most {VALUE_LIMIT} are possible")
