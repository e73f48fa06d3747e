"""What a child prints, line by line, for a master that shows it itself instead of letting it through."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

#: Called with the slot and one line, without its end. May not block.
OnLine = Callable[[str, str], None]

#: Bytes of a line after which it is handed over in pieces.
LONGEST = 64 * 1024


class Lines(asyncio.Protocol):
    """The reading side of a child's stdout and stderr.

    A pipe of its own and not the one asyncio offers: a program that the child left behind may hold it open,
    and the end of the child must not wait for that.
    """

    def __init__(self, slot: str, on_line: OnLine) -> None:
        self._slot = slot
        self._on_line = on_line
        self._rest = b""
        self._ended = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    async def open(self) -> int:
        """Start reading; returns the writing end, which the caller closes after giving it to the child."""
        reading, writing = os.pipe()
        pipe = os.fdopen(reading, "rb", buffering=0)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: self, pipe)
        return writing

    async def close(self, patience: float) -> None:
        """Hand over what is still in the pipe, waiting at most `patience` seconds for its end."""
        try:
            async with asyncio.timeout(patience):
                await self._ended.wait()
        except TimeoutError:
            assert self._transport is not None
            self._transport.close()
            await self._ended.wait()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._hand_over(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop, once."""
        if self._rest:
            self._hand_over(self._rest)
        self._ended.set()

    def _hand_over(self, line: bytes) -> None:
        self._on_line(self._slot, line.decode("utf-8", "replace"))
