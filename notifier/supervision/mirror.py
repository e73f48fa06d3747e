"""The child's copy of the desired state, and who follows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from notifier import logs
from notifier.cancellation import is_cancelled
from notifier.errors import BadFrame, NotifierError
from notifier.supervision.channel import Body

#: Gets a key and its new value, None if it was cleared. The change counts as applied when it has returned.
Follower = Callable[[str, Any], Awaitable[None]]

#: Seconds for one follower and one change. Longer than any push waits, so that it only frees the way for later ones.
FOLLOWER_TIMEOUT = 20.0
#: Characters of one failure: those of a whole batch fit into a frame.
SENTENCE_LIMIT = 200


class Mirror(Mapping[str, Any]):
    """A mapping of keys to values. `complete` is set when it holds everything for the first time.

    version: what the master counts as applied here.
    """

    def __init__(self) -> None:
        self.version = 0
        self.complete = asyncio.Event()
        self._values: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        self._failed: set[str] = set()
        self._unseen: set[str] = set()
        self._followers: list[tuple[str, Follower]] = []
        self._one_at_a_time = asyncio.Lock()

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    async def follow(self, follower: Follower, prefix: str) -> None:
        """Call it for every key there is with this prefix, and from then on for each change. Its exceptions are raised
        for the keys there are, and told to the master for those that come.
        """
        async with self._one_at_a_time:
            self._followers.append((prefix, follower))
            for key, value in list(self._values.items()):
                if key.startswith(prefix):
                    await follower(key, value)

    async def apply(self, body: Body) -> dict[str, str]:
        """Take a batch; returns the keys that a follower could not apply, with the reason. Raises BadFrame."""
        match body:
            case {
                "entries": list(entries),
                "version": int(version),
                "whole": bool(whole),
                "first": bool(first),
                "last": bool(last),
            }:
                pass
            case _:
                raise BadFrame(f"a state holds {sorted(body)} and cannot be understood")
        changes = [_read(entry) for entry in entries]
        async with self._one_at_a_time:
            failed = await self._take(changes, first=first, whole=whole, last=last)
            self.version = version
        if last:
            self.complete.set()
        return failed

    async def _take(
        self, changes: list[tuple[str, Any, int]], *, first: bool, whole: bool, last: bool
    ) -> dict[str, str]:
        if first:
            self._unseen = set(self._versions)
        self._unseen.difference_update(key for key, _, _ in changes)
        if whole and last:  # what the master does not know was cleared while this process had lost its place
            changes = changes + [(key, None, 0) for key in self._unseen]
        failed = {}
        for key, value, version in changes:
            if said := await self._change(key, value, version):
                failed[key] = said
        return failed

    async def _change(self, key: str, value: Any, version: int) -> str | None:
        has_it = self._versions.get(key) == version if value is not None else key not in self._versions
        if has_it and key not in self._failed:
            return None
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
        said = await self._tell(key, value)
        if said is not None or value is not None:
            self._versions[key] = version
        else:
            self._versions.pop(key, None)
        if said is not None:
            self._failed.add(key)
        else:
            self._failed.discard(key)
        return said

    async def _tell(self, key: str, value: Any) -> str | None:
        """Tell all who follow this key, also if one of them fails; the first failure in words."""
        said = None
        for prefix, follower in list(self._followers):
            if not key.startswith(prefix):
                continue
            try:
                async with asyncio.timeout(FOLLOWER_TIMEOUT):
                    await follower(key, value)
            except TimeoutError:
                said = said or f"took longer than {FOLLOWER_TIMEOUT:g} s"
            except NotifierError as error:
                said = said or str(error)
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                # the user's own code, or something that it awaited was cancelled: neither the pipe nor other keys pay
                logs.event("state.failed", logging.ERROR, exc_info=error, key=key)
                said = said or f"failed: {error!r}"
        return None if said is None else said[:SENTENCE_LIMIT]


def _read(entry: Any) -> tuple[str, Any, int]:
    match entry:
        case {"key": str(key), "value": value, "version": int(version)}:
            return key, value, version
    raise BadFrame("a state holds what is no entry")
