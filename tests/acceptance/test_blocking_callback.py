"""A callback of the user's own that blocks its process: what that holds up, and what not."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.control import Producer, operator_of, slot_of
from tests.acceptance.service import environment, running

#: Seconds for which it blocks.
BLOCKS = 5.0
CALLBACK = f"""
import time
from notifier import logs
from notifier.domain.outcome import Outcome
async def callback(notification):
    logs.event("mine", what="begins", id=notification.id, merchant=notification.merchant, at=time.time())
    if notification.merchant == "blocks":
        time.sleep({BLOCKS})
    logs.event("mine", what="ends", id=notification.id, merchant=notification.merchant, at=time.time())
    return Outcome.ok()
"""


async def test_a_callback_that_blocks_its_process_holds_up_that_tier_alone_and_nothing_is_lost_or_called_twice(
    broker: Any, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "blocking.py").write_text(CALLBACK)
    variables = environment(
        broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_LADDERS__OTHER="2s",
        NOTIFIER_CALLBACK="blocking:callback",
    )  # fmt: skip
    nowhere = "http://127.0.0.1:9"
    async with (
        running(variables, cwd=tmp_path) as service,
        operator_of(variables) as operator,
        Producer(variables) as producer,
    ):
        before = await producer.send(["before"], nowhere, 5)
        (blocker,) = await producer.send(["blocks"], nowhere, 1)
        behind = await producer.send(["behind", "behind-too"], nowhere, 10)
        beside: list[str] = []
        over = asyncio.Event()

        async def flow() -> None:
            while not over.is_set():
                sending = producer.send(["beside"], nowhere, 2, "other")
                beside.extend((await asyncio.gather(sending, asyncio.sleep(0.1)))[0])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(flow())
            await service.event("mine", what="begins", id=blocker)
            behind += await producer.send(["behind"], nowhere, 10)
            await service.event("mine", what="ends", id=blocker)
            over.set()
        await service.settled(set(producer.accepted))
        slot = await slot_of(operator, "tier:1s")
        assert (slot["epoch"], slot["state"]) == (1, "ready"), "the process lives through it"
        assert await service.stop() == 0
    calls = [event for event in service.events if event["event"] == "mine"]
    begun = {event["id"]: event["at"] for event in calls if event["what"] == "begins"}
    assert Counter(event["id"] for event in calls if event["what"] == "begins") == Counter(producer.accepted)
    assert {event["decision"] for event in service.events if event["event"] == "attempt"} == {"complete"}
    (until,) = (event["at"] for event in calls if event["what"] == "ends" and event["id"] == blocker)
    since = begun[blocker]
    assert until - since >= BLOCKS
    assert not [name for name in [*before, *behind] if since < begun[name] < until], "they come after it"

    meanwhile = {name for name in beside if since < begun[name] < until}
    late = [
        event["late_ms"]
        for event in service.events
        if event["event"] == "attempt" and event["notification"] in meanwhile
    ]
    assert len(late) >= BLOCKS * 10, "half of those that came"
    assert max(late) < 2500
    moments = sorted([since, until, *(begun[name] for name in meanwhile)])
    assert max(after - earlier for earlier, after in itertools.pairwise(moments)) < 2.5
