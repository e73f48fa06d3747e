"""A client of the HTTP API as a producer or an operator would write one, and what tests wait for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from notifier.ledger.database import Database
from tests.acceptance.service import RunningService

TOKEN = "test-token-0123456789"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. json: None for anything else."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    @property
    def problem(self) -> str:
        """The detail of a problem; fails if it is none."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["detail"])


class Client:
    """token: sent with every request; None sends none."""

    def __init__(self, service: RunningService, variables: Mapping[str, str], token: str | None = TOKEN) -> None:
        self.service = service
        self.variables = variables
        self.url = service.dashboard
        self._token = token
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """One request; body: sent as JSON."""
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        headers |= options.pop("headers", {})
        if body is not None:
            options["data"] = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        async with self._session.request(
            method, f"{self.url}{path}", headers=headers, allow_redirects=False, **options
        ) as answer:
            read = await answer.read()
            found = json.loads(read) if "json" in answer.headers.get("Content-Type", "") else None
            return Answer(answer.status, answer.headers, read, found)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.ask("POST", path, body, **options)

    async def accepted(self, body: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Hand in one notification that is accepted."""
        answer = await self.post("/v1/notifications", body, **options)
        assert answer.status == 202, answer
        return dict(answer.json)

    async def until(self, notification: str, timeout: float = 20, **wanted: Any) -> dict[str, Any]:
        """The notification as the ledger has it, once it looks so. Asked again and again: the ledger tells nobody."""
        shown: Any = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    answer = await self.get(f"/v1/notifications/{notification}")
                    shown = answer.json
                    if answer.status == 200 and all(shown[name] == value for name, value in wanted.items()):
                        return dict(shown)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{notification} did not become {wanted} in {timeout:g} s: {shown}") from None

    async def becomes(self, true: Callable[[], Awaitable[bool]], timeout: float = 30) -> None:
        """Wait until the service looks so. Asked again and again: nothing that is looked at tells by itself."""
        async with asyncio.timeout(timeout):
            while not await true():  # noqa: ASYNC110  # it is another process that changes
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The service's ledger."""
        file = Path(self.variables["NOTIFIER_STATE_DIR"]) / "ledger.db"
        database = await Database.open(f"sqlite:///{file}")
        try:
            yield database
        finally:
            await database.close()
