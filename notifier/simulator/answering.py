"""How each word of a script is carried out on a connection, broken HTTP included."""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus

from aiohttp import web

from notifier.simulator.script import Word

#: Where `redirect` points: a client that follows shows up in the log with this path.
REDIRECTED = "/redirected"
_HUGE_CHUNK = b"x" * 65_536
_HUGE_CHUNKS = 1024  # 64 MiB
_WITHOUT_BODY = (204, 205, 304)


class Unanswered(Exception):
    """The connection was ended, or left hanging, as the script says; there is nothing to answer any more."""


async def answer(request: web.BaseRequest, word: Word, closing: asyncio.Event) -> web.StreamResponse:
    """Do what the word says. closing: set when the simulator ends. Raises Unanswered where no answer is to be sent."""
    match word.name:
        case "timeout":
            await closing.wait()
            raise Unanswered
        case "reset":
            _reset(request)
            raise Unanswered
        case "huge":
            return await _huge(request)
        case "slow":
            await _pause(word.seconds or 0.0, closing)
            return web.Response(text="success")
        case "ok":
            return web.Response(text="success")
        case "ok-json":
            return web.json_response({"code": "SUCCESS"})
        case "wrong-body":
            return web.Response(text="fail")
        case "redirect":
            return web.Response(status=302, text="elsewhere", headers={"Location": REDIRECTED})
    status = word.status
    assert status is not None
    if status < 200:
        await _informational_only(request, status, closing)
    return _plain(status, word)


def _plain(status: int, word: Word) -> web.Response:
    headers = {} if word.retry_after is None else {"Retry-After": str(word.retry_after)}
    if status in _WITHOUT_BODY:
        return web.Response(status=status, headers=headers)
    text = "success" if 200 <= status <= 299 else f"{status} {_phrase(status)}".strip()
    return web.Response(status=status, text=text, headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    # Linger with no time: the kernel sends RST instead of FIN, as a crashed or overloaded server does.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _informational_only(request: web.BaseRequest, status: int, closing: asyncio.Event) -> None:
    """1xx announces an answer: here none ever follows."""
    if request.transport is not None:
        request.transport.write(f"HTTP/1.1 {status} {_phrase(status)}\r\n\r\n".encode())
    await closing.wait()
    raise Unanswered


async def _huge(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    for _ in range(_HUGE_CHUNKS):
        await response.write(_HUGE_CHUNK)
    await response.write_eof()
    return response


async def _pause(seconds: float, closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return
    raise Unanswered
