"""The bare loop: take a message, post it, acknowledge it. What any program in this stack does at the very least.

No facts, no ladder, no signature, no guard, no log line, no decision, no reconnecting, no supervision. The queues are
of the same kinds as notifier's, so that the broker has the same to do: a quorum queue with a TTL of one second that
dead-letters at least once into a quorum queue.

    bare_loop.py enqueue URL NAMESPACE FILE IN_FLIGHT    publish the lines of FILE, print each id once confirmed
    bare_loop.py work URL NAMESPACE PREFETCH             deliver until SIGTERM
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aio_pika
import aiohttp
import uvloop
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue

TIER = "1s"


async def declare(channel: AbstractChannel, namespace: str) -> tuple[AbstractExchange, AbstractQueue]:
    """The exchange to publish to, and the queue where what was published is a second later."""
    work = await channel.declare_exchange(f"{namespace}.work", "direct", durable=True)
    work_queue = await channel.declare_queue(
        f"{namespace}.work.{TIER}", durable=True, arguments={"x-queue-type": "quorum"}
    )
    await work_queue.bind(work, TIER)
    wait = await channel.declare_exchange(f"{namespace}.wait", "direct", durable=True)
    wait_queue = await channel.declare_queue(
        f"{namespace}.wait.{TIER}",
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-message-ttl": 1000,
            "x-dead-letter-exchange": work.name,
            "x-dead-letter-routing-key": TIER,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
    await wait_queue.bind(wait, TIER)
    return wait, work_queue


async def enqueue(url: str, namespace: str, file: str, in_flight: int) -> None:
    """Publish all lines, at most `in_flight` of them unconfirmed at a time."""
    async with await aio_pika.connect(url) as connection:
        wait, _ = await declare(await connection.channel(on_return_raises=True), namespace)
        room = asyncio.Semaphore(in_flight)

        async def publish(line: str) -> None:
            stated = json.loads(line)
            message = aio_pika.Message(
                json.dumps(stated["payload"], separators=(",", ":")).encode(),
                headers={"notification": stated["id"], "url": stated["url"]},
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await wait.publish(message, TIER)
            print(stated["id"], flush=True)
            room.release()

        with open(file) as lines:  # noqa: ASYNC230  # a local file; a bare loop would not care
            async with asyncio.TaskGroup() as publishing:
                for line in lines:
                    await room.acquire()
                    publishing.create_task(publish(line))


async def work(url: str, namespace: str, prefetch: int) -> None:
    """Deliver what comes, each in the task that aio-pika makes for it."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        _, queue = await declare(channel, namespace)

        async def deliver(message: AbstractIncomingMessage) -> None:
            headers = {"webhook-id": str(message.headers["notification"]), "Content-Type": "application/json"}
            async with session.post(str(message.headers["url"]), data=message.body, headers=headers) as response:
                await response.read()
            response.raise_for_status()
            await message.ack()

        await queue.consume(deliver)
        await stopped.wait()


def main() -> None:
    """Read the command line; nobody types it."""
    match sys.argv[1:]:
        case ["enqueue", url, namespace, file, in_flight]:
            uvloop.run(enqueue(url, namespace, file, int(in_flight)))
        case ["work", url, namespace, prefetch]:
            uvloop.run(work(url, namespace, int(prefetch)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
