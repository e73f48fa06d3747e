"""Frames that wait for the one writer of a pipe, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque

from notifier.errors import PeerBusy
from notifier.supervision import frames

#: Bytes that may wait for a peer that does not read, beyond what the kernel takes.
LIMIT = 4 * frames.LIMIT


class Outbox:
    """First in, first out."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._finished = False
        self._changed = asyncio.Event()

    def put(self, frame: bytes) -> None:
        """Add a frame. Raises PeerBusy, at once, if the peer has left too much unread."""
        if self._size + len(frame) > LIMIT:
            raise PeerBusy(f"the process at the other end of the pipe has left {self._size} bytes unread")
        self._frames.append(frame)
        self._size += len(frame)
        self._changed.set()

    def finish(self) -> None:
        """Nothing is added any more; twice is fine."""
        self._finished = True
        self._changed.set()

    async def take(self) -> bytes | None:
        """The oldest frame as soon as there is one; None when finished and empty."""
        while not self._frames:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        frame = self._frames.popleft()
        self._size -= len(frame)
        return frame
