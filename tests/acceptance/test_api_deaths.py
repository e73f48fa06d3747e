"""kill -9 of the API under requests with Idempotency-Keys: whoever tries again gets the same notification."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter, defaultdict
from typing import Any

import aiohttp
import pytest

from notifier.simulator.server import Simulator
from tests.acceptance.control import operator_of, until_slot
from tests.acceptance.service import environment, running
from tests.acceptance.truth import Books, free_port


class Stubborn:
    """Producers that send each key again until it is answered with 202, as the API's documentation asks them to."""

    def __init__(self, url: str, merchant: str) -> None:
        self.ids: dict[str, str] = {}
        self.tries: Counter[str] = Counter()
        self.ending = asyncio.Event()
        self._url = f"{url}/v1/notifications"
        self._merchant = merchant

    async def produce(self, name: str) -> None:
        """One key after the other."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            number = 0
            while not self.ending.is_set():
                number += 1
                key = f"{name}-{number}"
                while key not in self.ids:
                    await self._try(session, key)

    async def _try(self, session: aiohttp.ClientSession, key: str) -> None:
        self.tries[key] += 1
        body = {"merchant": "shop", "url": self._merchant, "payload": key}
        try:
            async with session.post(self._url, json=body, headers={"Idempotency-Key": key}) as answer:
                if answer.status == 202:
                    self.ids[key] = (await answer.json())["id"]
                    return
                assert answer.status in (409, 503), await answer.text()  # still at work, or not able to
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.05)  # nobody listens: a client's own patience


@pytest.mark.timeout(900)
@pytest.mark.parametrize("deaths", [pytest.param(10, marks=pytest.mark.long)])
async def test_a_key_that_is_tried_again_over_deaths_of_the_api_makes_one_notification(
    broker: Any, namespace: str, deaths: int
) -> None:
    variables = environment(
        broker.url,
        namespace,
        NOTIFIER_LADDER="0s",
        NOTIFIER_LOG__LEVEL="warning",
        NOTIFIER_API__PORT=str(free_port()),
    )
    async with (
        Simulator() as merchant,
        running(variables, whole=True) as service,
        operator_of(variables) as operator,
    ):
        stubborn = Stubborn(service.dashboard, f"{merchant.url}/shop")
        async with asyncio.TaskGroup() as producing:
            for number in range(20):
                producing.create_task(stubborn.produce(str(number)))
            for _ in range(deaths):
                slot = await until_slot(operator, "api", timeout=120, state="ready")
                await merchant.wait_for(len(merchant.received) + 60, timeout=60)
                os.kill(slot["pid"], signal.SIGKILL)
                await until_slot(operator, "api", timeout=120, epoch=slot["epoch"] + 1, state="ready")
            stubborn.ending.set()
        await Books(f"sqlite:///{variables['NOTIFIER_STATE_DIR']}/ledger.db").until_finished(set(stubborn.ids.values()))
        made: defaultdict[str, set[str | None]] = defaultdict(set)
        for each in merchant.received:
            made[json.loads(each.body)].add(each.webhook_id)
        assert dict(made) == {key: {each} for key, each in stubborn.ids.items()}
        assert max(stubborn.tries.values()) > 1, "no request met a death"
