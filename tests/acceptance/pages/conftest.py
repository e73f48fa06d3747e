"""One browser for all tests of the pages, and one service with merchants in every kind of trouble."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import expect

from notifier.broker.cleanup import delete_namespace
from notifier.simulator.script import Script
from notifier.simulator.server import Simulator
from tests.acceptance.pages.looking import Windows, chromium, executable
from tests.acceptance.service import environment, running
from tests.conftest import TIERS, TestBroker
from tests.integration.api.client import Client
from tests.integration.webhook.raw_merchant import raw_merchant

#: Milliseconds that a page is given to show what a test expects: what a click does takes a few processes.
expect.set_options(timeout=20_000)

#: A merchant whose name, order and answer are made to harm whoever looks at them.
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
_ANSWER = b"<script>document.title='owned'</script></pre><h1>owned</h1>"


@dataclass
class Trade:
    """The service and its merchants. client: without a token, as a browser on this machine. ids: by merchant."""

    client: Client
    merchants: Simulator
    ids: dict[str, list[str]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return self.client.url

    async def register(self, merchant: str, url: str | None = None, **fields: object) -> None:
        body = {"id": merchant, "url": url or f"{self.merchants.url}/{merchant}", **fields}
        answer = await self.client.post("/v1/merchants", body)
        assert answer.status == 201, answer

    async def send(self, merchant: str, count: int = 1, url: str | None = None) -> list[str]:
        """Hand in so many; their ids."""
        state = {"payload": {"order": f"<b>{merchant}</b>"}, "reference": f"{merchant}-order"[:256], "url": url}
        body = {"merchant": merchant, **{name: value for name, value in state.items() if value is not None}}
        sent = [(await self.client.accepted(body))["id"] for _ in range(count)]
        self.ids.setdefault(merchant, []).extend(sent)
        return sent

    async def settled(self, merchant: str, status: str) -> None:
        """Wait until all that was sent to it is so."""
        for each in self.ids[merchant]:
            await self.client.until(each, status=status)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Windows]:
    """Chromium; a missing one is a failure."""
    path = executable()
    if path is None:
        pytest.fail("no Chromium to look at the pages with: run scripts/chromium.sh", pytrace=False)
    async with chromium(path) as found:
        yield found


@contextlib.asynccontextmanager
async def open_trade(broker: TestBroker, *arguments: str, **settings: str) -> AsyncIterator[Trade]:
    """A whole service and merchants that do as their names say; registered are none. arguments: of `run`."""
    namespace = f"test-{secrets.token_hex(4)}"
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s,1s", **settings)
    scripts = {"/failing": "500", "/flaky": "500,ok", "/wordy": "wrong-body", "/gone": "410"}
    async with (
        Simulator({path: Script.parse(script) for path, script in scripts.items()}) as merchants,
        running(variables, *arguments, whole=True) as service,
        Client(service, variables, token=settings.get("NOTIFIER_API__TOKEN")) as client,
    ):
        yield Trade(client, merchants)
    await delete_namespace(broker.url, namespace, TIERS)


@pytest.fixture(scope="package")
async def trade(broker: TestBroker) -> AsyncIterator[Trade]:
    """Merchants in every kind of trouble. Tests that look use it as it is; those that change things take new names."""
    async with open_trade(broker) as trade, raw_merchant(_hostile) as hostile:
        for merchant in ("prompt", "flaky", "failing", "gone", "blocked"):
            await trade.register(merchant)
        await trade.register("wordy", ack="body=success")
        await trade.register("refused", "http://127.0.0.1:9/hooks")
        await trade.client.post("/v1/merchants/blocked/block", {"reason": "charged twice, see INC-118"})
        expected = {
            "prompt": "completed", "flaky": "completed", "failing": "exhausted", "gone": "stopped", "blocked": "held",
            "unknown": "held", "wordy": "exhausted", "refused": "exhausted", HOSTILE: "exhausted",
        }  # fmt: skip
        for merchant in expected:
            await trade.send(merchant, 2 if merchant != "gone" else 1, hostile.url if merchant == HOSTILE else None)
        for merchant, status in expected.items():
            await trade.settled(merchant, status)
        yield trade


async def _hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    await reader.readexactly(length)
    writer.write(b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_ANSWER), _ANSWER))
    await writer.drain()
