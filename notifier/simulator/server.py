"""The simulated merchants: one server, a script for each path, and a record of everything that arrived."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from aiohttp import web

from notifier.domain.signature import Secret, verify
from notifier.errors import InvalidSignature
from notifier.simulator.answering import Unanswered, answer
from notifier.simulator.received import Received, SignatureState
from notifier.simulator.script import Script, Word

_OK = Script.parse("ok")
_REFUSED = Word("401", 401)


class Simulator:
    """Merchants on one port. Usable as `async with`; start and close may come twice.

    scripts: by path (`/shop`); any other path follows `default`. secrets: when given, each signature is checked and a
    wrong one answered with 401, which uses up no word of the script. log: a file that gets one JSON line for each
    request (Received.line), appended. port: 0 takes a free one. keep: whether `received` holds every request; a
    long-running simulator has no use for that. told: called with each request as it is answered.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script] | None = None,
        default: Script = _OK,
        *,
        secrets: Sequence[Secret] = (),
        log: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: bool = True,
        told: Callable[[Received], None] | None = None,
    ) -> None:
        self._scripts = dict(scripts or {})
        self._default = default
        self._secrets = tuple(secrets)
        self._log_path = log
        self._log: TextIO | None = None
        self._host = host
        self._port = port
        self._keep = keep
        self._told = told
        self._turns: Counter[tuple[str, str | None]] = Counter()
        self._runner: web.ServerRunner | None = None
        self._closing = asyncio.Event()
        self._arrived = asyncio.Event()
        #: Every request so far, in order of arrival.
        self.received: list[Received] = []

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken or the log cannot be opened."""
        if self._runner is not None:
            return
        if self._log_path is not None:
            self._log = self._log_path.open("a", encoding="utf-8", buffering=1)
        self._closing = asyncio.Event()
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            self._close_log()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening and end every connection, also those left hanging by the script."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._closing.set()
        await runner.cleanup()
        self._close_log()

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def url(self) -> str:
        """`http://host:port`, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def wait_for(
        self, wanted: int | Callable[[Sequence[Received]], object], timeout: float = 10
    ) -> list[Received]:
        """Everything received, as soon as there are `wanted` requests, or `wanted(received)` is true.

        Raises TimeoutError saying what had arrived by then.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._has(wanted):
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            seen = ", ".join(f"{each.path} {each.webhook_id} → {each.answer}" for each in self.received[-10:])
            raise TimeoutError(
                f"waited {timeout:g} s, {len(self.received)} requests came; the last ones: {seen or 'none'}"
            ) from None
        return list(self.received)

    def _has(self, wanted: int | Callable[[Sequence[Received]], object]) -> bool:
        return len(self.received) >= wanted if isinstance(wanted, int) else bool(wanted(self.received))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        ts = time.time_ns() // 1_000_000
        headers = {name.lower(): _readable(value) for name, value in request.headers.items()}
        body = await request.content.read()
        signature, fault = self._check(headers, body)
        word = _REFUSED if signature is SignatureState.INVALID else self._next_word(request)
        self._record(
            Received(
                ts=ts,
                method=request.method,
                path=request.path,
                headers=headers,
                body=body,
                answer=str(word),
                status=word.status,
                signature=signature,
                fault=fault,
            )
        )
        try:
            return await answer(request, word, self._closing)
        except Unanswered:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # aiohttp wants one; there is no connection left to send it on

    def _check(self, headers: Mapping[str, str], body: bytes) -> tuple[SignatureState, str]:
        if not self._secrets:
            return SignatureState.UNCHECKED, ""
        webhook_id, timestamp, signature = (
            headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        try:
            verify(self._secrets, webhook_id, timestamp, signature, body, now=time.time())
        except InvalidSignature as error:
            return SignatureState.INVALID, str(error)
        return SignatureState.VALID, ""

    def _next_word(self, request: web.BaseRequest) -> Word:
        script = self._scripts.get(request.path, self._default)
        if len(script.words) == 1:  # nothing to count: a simulator may see millions of notifications
            return script.words[0]
        key = request.path, request.headers.get("webhook-id")
        turn = self._turns[key]
        self._turns[key] += 1
        return script.word(turn)

    def _record(self, received: Received) -> None:
        if self._log is not None:
            self._log.write(received.line() + "\n")
        if self._keep:
            self.received.append(received)
        self._arrived.set()
        if self._told is not None:
            self._told(received)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None


def _readable(value: str) -> str:
    """A header's value without what was no UTF-8: it goes into logs and signatures."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
