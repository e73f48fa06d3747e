"""The line to the broker: a proxy that knows where AMQP frames begin, so that it can be cut inside one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from tests.integration.amqp.proxy import Proxy

#: AMQP 0-9-1, class and method of a method frame.
_PUBLISH, _CONFIRM = (60, 40), (60, 80)
_CONSUMING, _CANCEL = (60, 21), (60, 30)
_METHOD, _FRAME_END = 1, b"\xce"
_PROTOCOL_HEADER = 8
_LARGEST_READ = 65_536


class BrokerLine(Proxy):
    """Between one service, its load, and the broker. All connections are harmed at once."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._inside_publish: asyncio.Future[None] | None = None
        self._held_confirm: asyncio.Future[None] | None = None
        self._uncancelled = 0
        self.cancelled = 0

    def reset(self) -> int:
        """End all connections by RST on both sides, as a firewall does; returns how many lines there were."""
        lines = len(self._lines)
        for line in self._lines:
            for writer in line.writers:
                with contextlib.suppress(OSError, AttributeError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
        self.cut()
        return lines

    async def cut_inside_a_publish(self) -> None:
        """Let half of the next publish through, and nothing after it; then reset all lines."""
        self._inside_publish = asyncio.get_running_loop().create_future()
        await self._inside_publish
        self._inside_publish = None

    async def cut_before_a_confirm(self) -> None:
        """Hold back all that the broker says until a confirm is among it; then reset."""
        self._held_confirm = asyncio.get_running_loop().create_future()
        self.downward.clear()
        await self._held_confirm
        self._held_confirm = None
        self.reset()
        self.downward.set()

    def cancel_consumers(self) -> None:
        """Tell every consumer, in the broker's name, that it was cancelled; `cancelled` counts those who were told."""
        self._uncancelled += 1

    async def _take(self, reader: asyncio.StreamReader, taken: asyncio.Queue[bytes], *, up: bool) -> None:
        """As the base class, but what is put is whole frames."""
        frames = _Frames()
        tag: bytes | None = None
        told = self._uncancelled
        with contextlib.suppress(OSError):
            while arrived := await reader.read(min(self.slice, _LARGEST_READ)):
                await self._tell(**{"up" if up else "down": len(arrived)})
                whole = bytearray()
                for channel, method, frame in frames.split(arrived):
                    if up and method == _PUBLISH and self._is_wanted(self._inside_publish):
                        await taken.put(bytes(whole) + frame[: len(frame) // 2])
                        asyncio.get_running_loop().call_later(0.01, self._cut_inside)  # once the half is on its way
                        return
                    if method == _CONSUMING:
                        tag = frame[11:-1]  # the rest of the payload, which is a short string
                    if not up and method is not None and tag is not None and told < self._uncancelled:
                        told = self._uncancelled
                        self.cancelled += 1
                        whole += _frame(channel, _CANCEL, tag + b"\x01")
                    if not up and method == _CONFIRM and self._is_wanted(self._held_confirm):
                        assert self._held_confirm is not None
                        self._held_confirm.set_result(None)
                    whole += frame
                if whole:
                    await taken.put(bytes(whole))
        await taken.put(b"")

    @staticmethod
    def _is_wanted(waiting: asyncio.Future[None] | None) -> bool:
        return waiting is not None and not waiting.done()

    def _cut_inside(self) -> None:
        self.reset()
        if self._inside_publish is not None and not self._inside_publish.done():
            self._inside_publish.set_result(None)


class _Frames:
    """Splits a stream into (channel, class and method of a method frame, the frame's bytes)."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, arrived: bytes) -> list[tuple[int, tuple[int, int] | None, bytes]]:
        stream, at = self._rest + arrived, 0
        found: list[tuple[int, tuple[int, int] | None, bytes]] = []
        while len(stream) - at >= _PROTOCOL_HEADER:
            if stream.startswith(b"AMQP", at):
                found.append((0, None, stream[at : at + _PROTOCOL_HEADER]))
                at += _PROTOCOL_HEADER
                continue
            kind, channel, size = struct.unpack_from(">BHI", stream, at)
            end = at + 7 + size + 1
            if len(stream) < end:
                break
            klass, method = struct.unpack_from(">HH", stream, at + 7) if kind == _METHOD else (0, 0)
            found.append((channel, (klass, method) if kind == _METHOD else None, stream[at:end]))
            at = end
        self._rest = stream[at:]
        return found


def _frame(channel: int, method: tuple[int, int], arguments: bytes) -> bytes:
    payload = struct.pack(">HH", *method) + arguments
    return struct.pack(">BHI", _METHOD, channel, len(payload)) + payload + _FRAME_END
