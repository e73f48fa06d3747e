"""A merchant's server for tests that say themselves how it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def served(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, cancelled: bool = False
) -> AsyncIterator[str]:
    """Its address, without a slash at the end. cancelled: whether `answer` is, when its caller goes away."""
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=cancelled))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
