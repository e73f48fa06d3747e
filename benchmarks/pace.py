"""The paced publisher: so many a second, each with a due moment of its own that is written down."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterable, Iterator

import aio_pika

from benchmarks.load import Item
from benchmarks.sides import DELAY, TIER, Side


async def publish_steadily(broker: str, side: Side, items: Iterable[Item], rate: float) -> dict[str, float]:
    """Publish to the side's wait exchange, evenly, and return once all is confirmed. Each item is taken in its moment.

    The result holds the due moment of each id in Unix seconds: the clock just before its publish, plus the delay.

    Nothing searches this process for garbage meanwhile: with all that a benchmark keeps that takes 100 ms, after which
    thirty notifications would be published at once, and be late for our sake.
    """
    due: dict[str, float] = {}
    async with await aio_pika.connect(broker) as connection:
        channel = await connection.channel(on_return_raises=True)
        wait = await channel.get_exchange(f"{side.namespace}.wait")

        async def publish(item: Item) -> None:
            due[item.id] = time.time() + DELAY
            headers = side.headers(item, int(due[item.id] * 1000))
            message = aio_pika.Message(
                item.payload,
                headers=dict(headers),
                content_type="application/json",
                message_id=item.id,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await wait.publish(message, TIER)

        publishing = []
        with _no_search_for_garbage():
            began = time.monotonic()
            try:
                for number, item in enumerate(items):
                    await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))  # this is the pace
                    publishing.append(asyncio.create_task(publish(item)))
                await asyncio.gather(*publishing)
            finally:  # ended early, these would fail with the connection, each by itself
                for task in publishing:
                    task.cancel()
                await asyncio.gather(*publishing, return_exceptions=True)
    return due


@contextlib.contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
