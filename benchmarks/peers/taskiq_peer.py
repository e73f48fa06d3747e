"""taskiq with taskiq-aio-pika: quorum queues, confirms, and its delay queue with a TTL for each message."""

from __future__ import annotations

import asyncio
import os

import aiohttp
import callback
import steady
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

#: Its own default is 10.
_PREFETCH = int(os.environ.get("PEER_PREFETCH", "10"))

broker = AioPikaBroker(
    callback.BROKER,
    qos=_PREFETCH,
    exchange=Exchange(name=callback.QUEUE),
    task_queues=[Queue(name=callback.QUEUE)],
    delay_queue=Queue(name=f"{callback.QUEUE}.delay"),
    dead_letter_queue=Queue(name=f"{callback.QUEUE}.dead"),
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def connect(state: TaskiqState) -> None:
    """One session a process."""
    timeout = aiohttp.ClientTimeout(total=callback.TIMEOUT)
    state.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def disconnect(state: TaskiqState) -> None:
    """With the process."""
    await state.session.close()


@broker.task(task_name="notify")
async def notify(notification: str, url: str, payload: str) -> None:
    """One callback."""
    callback.started(notification)
    try:
        async with broker.state.session.post(
            url, data=payload.encode(), headers=callback.headers(notification)
        ) as response:
            await response.read()
    except (aiohttp.ClientError, TimeoutError):
        return  # a failed attempt: this benchmark makes one


async def produce() -> None:
    """Publish everything."""
    delayed = notify.kicker().with_labels(delay=callback.DELAY)
    await broker.startup()
    try:
        await steady.from_tasks(delayed.kiq)
    finally:
        await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(produce())
