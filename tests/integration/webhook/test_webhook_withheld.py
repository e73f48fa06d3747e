"""A merchant that is blocked while a call to it is being prepared gets nothing of it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from raw_merchant import Names, a_merchant, a_notification, a_webhook

from notifier.errors import CallWithheld
from notifier.simulator import Script, Simulator


class SlowNames(Names):
    """A resolver that takes its time. asking: somebody waits for it."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        super().__init__(answers)
        self.asking, self.answer = asyncio.Event(), asyncio.Event()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> Any:
        self.asking.set()
        await self.answer.wait()
        return await super().resolve(host, port, family)


async def test_a_block_during_connecting_is_seen_before_the_first_byte() -> None:
    names, blocked = SlowNames({"shop.test": ["127.0.0.1"]}), set[str]()
    async with Simulator() as simulator, a_webhook(resolver=names, withheld=blocked.__contains__) as webhook:
        url, merchant = f"http://shop.test:{simulator.port}/", a_merchant()
        call = asyncio.create_task(webhook(a_notification(url), merchant))
        await names.asking.wait()
        blocked.add(merchant.id)
        names.answer.set()
        with pytest.raises(CallWithheld):
            await call
        blocked.clear()
        assert (await webhook(a_notification(url), merchant)).acknowledged, "the connection serves the next call"
        assert len(simulator.received) == 1


async def test_a_call_whose_request_was_sent_finishes() -> None:
    blocked = set[str]()
    async with (
        Simulator(default=Script.parse("slow:0.2")) as simulator,
        a_webhook(withheld=blocked.__contains__) as webhook,
    ):
        merchant = a_merchant()
        call = asyncio.create_task(webhook(a_notification(simulator.url), merchant))
        await simulator.wait_for(1)
        blocked.add(merchant.id)
        assert (await call).acknowledged
