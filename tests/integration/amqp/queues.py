"""Looking into queues, and publishing as a plain AMQP client of any language would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import ChannelFrame
from pamqp import encode, frame
from pamqp.body import ContentBody
from pamqp.commands import Basic

from notifier.domain.wire import Message


class Bench:
    """A plain client's connection, with aio-pika's own classes."""

    def __init__(
        self, url: str, connection: aio_pika.abc.AbstractConnection, channel: aio_pika.abc.AbstractChannel
    ) -> None:
        self._url = url
        self._connection = connection
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator[Self]:
        """One for the length of the block."""
        async with await aio_pika.connect(url) as connection:
            yield cls(url, connection, await connection.channel(on_return_raises=True))

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes = b"{}",
        headers: Any = None,
        *,
        mandatory: bool = True,
        **properties: Any,
    ) -> None:
        """Publish confirmed. properties: aio-pika's, such as message_id."""
        target = (
            await self._channel.get_exchange(exchange, ensure=False) if exchange else self._channel.default_exchange
        )
        await target.publish(aio_pika.Message(body, headers=headers, **properties), routing_key, mandatory=mandatory)

    async def publish_bare(self, exchange: str, routing_key: str, body: bytes, headers: dict[str, Any]) -> None:
        """Publish without a message_id; aio-pika always adds one, other clients do not."""
        await self.publish_raw(exchange, routing_key, body, encode.field_table(headers)[4:])

    async def publish_raw(self, exchange: str, routing_key: str, body: bytes, fields: bytes) -> None:
        """Publish with headers as bytes, as no Python client would write them, and without a message_id."""
        channel = await self._connection.channel(publisher_confirms=False)
        underlay = await channel.get_underlay_channel()
        publish = frame.marshal(Basic.Publish(exchange=exchange, routing_key=routing_key), underlay.number)
        persistent_with_headers = 1 << 13 | 1 << 12
        content = struct.pack(">HHQH", 60, 0, len(body), persistent_with_headers)
        content += struct.pack(">I", len(fields)) + fields + b"\x02"
        header = struct.pack(">BHI", 2, underlay.number, len(content)) + content + b"\xce"
        payload = publish + header + frame.marshal(ContentBody(body), underlay.number)
        await underlay.write_queue.put(ChannelFrame(payload=payload, should_close=False))
        await channel.close()  # answered after everything that was sent before

    async def exchange(self, name: str, kind: str) -> None:
        """Declare an exchange of a test."""
        await self._channel.declare_exchange(name, aio_pika.ExchangeType(kind), durable=True)

    async def queue(self, name: str, **arguments: Any) -> None:
        """Declare a quorum queue of a test."""
        await self._channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})

    async def offers_delayed(self) -> bool:
        """Whether the broker knows the plugin's kind of exchange; asked over a connection that it may close."""
        name = f"test-probe-{secrets.token_hex(4)}"
        async with await aio_pika.connect(self._url) as asking:
            channel = await asking.channel()
            try:
                await channel.declare_exchange(name, "x-delayed-message", arguments={"x-delayed-type": "direct"})
            except aio_pika.exceptions.AMQPError:
                return False
            await channel.exchange_delete(name)
            return True

    async def delete(self, queue: str) -> None:
        """Delete a queue with all it holds."""
        await self._channel.queue_delete(queue)

    async def publish_until_routed(self, exchange: str, routing_key: str, body: bytes) -> None:
        """Publish as soon as there is a queue for it."""
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(aio_pika.exceptions.DeliveryError):
                    return await self.publish(exchange, routing_key, body)

    async def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Take a binding away."""
        found = await self._channel.get_queue(queue, ensure=False)
        await found.unbind(exchange, routing_key)

    async def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange with its bindings."""
        await self._channel.exchange_delete(exchange)

    async def ready(self, queue: str) -> int:
        """Messages that wait for a consumer."""
        return (await self._looked(queue))[0]

    async def stands(self, queue: str) -> bool:
        """Whether there is such a queue."""
        channel = await self._connection.channel()
        try:
            await channel.declare_queue(queue, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        await channel.close()
        return True

    async def left(self, queue: str) -> int:
        """Messages in a queue, those included that its consumers did not acknowledge; waits until it has none."""
        async with asyncio.timeout(10):
            while True:
                messages, consumers = await self._looked(queue)
                if not consumers:
                    return messages

    async def _looked(self, queue: str) -> tuple[int, int]:
        """Messages and consumers. RabbitMQ says that there are none of either when the queue's leader does not answer
        within a quarter of a second (rabbit_quorum_queue:stat), so that is believed when it is said three times.
        """
        for pause in (0.1, 0.1, 0):
            found = (await self._channel.declare_queue(queue, passive=True)).declaration_result
            assert found.message_count is not None
            assert found.consumer_count is not None
            if found.message_count or found.consumer_count:
                break
            await asyncio.sleep(pause)
        return found.message_count, found.consumer_count

    async def take(self, queue: str, count: int = 1, timeout: float = 10) -> list[Message]:
        """The next messages of a queue, awaited and acknowledged."""
        return [as_message(each) for each in await self.take_raw(queue, count, timeout)]

    async def take_raw(self, queue: str, count: int = 1, timeout: float = 10) -> list[AbstractIncomingMessage]:
        """The same with aio-pika's own messages. All at once: each one by itself would wait for a disk."""
        if not count:
            return []
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        channel = await self._connection.channel()
        try:
            await channel.set_qos(prefetch_count=count)  # and none is acknowledged before the end, so there are no more
            taking = await channel.get_queue(queue, ensure=False)
            tag = await taking.consume(arrived.put)
            async with asyncio.timeout(timeout):
                found = [await arrived.get() for _ in range(count)]
            await taking.cancel(tag)
            # in one piece: of many, one by one, RabbitMQ keeps some back and forgets them when the channel closes
            await found[-1].ack(multiple=True)
        finally:
            await channel.close()
        return found

    async def stream(self, queue: str, count: int, timeout: float = 10) -> AsyncIterator[AbstractIncomingMessage]:
        """As they arrive, one at a time."""
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        channel = await self._connection.channel()
        try:
            await channel.set_qos(prefetch_count=1)
            await (await channel.get_queue(queue, ensure=False)).consume(arrived.put)
            async with asyncio.timeout(timeout):
                for _ in range(count):
                    message = await arrived.get()
                    yield message
                    await message.ack()
        finally:
            await channel.close()

    async def die_with(self, queue: str, count: int) -> None:
        """Take so many messages, as a process of ours would, and die with them."""
        async with await aio_pika.connect(self._url) as dying:
            channel = await dying.channel()
            await channel.set_qos(prefetch_count=count)
            held: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await (await channel.get_queue(queue, ensure=False)).consume(held.put)
            async with asyncio.timeout(10):
                for _ in range(count):
                    await held.get()

    async def facts(self, queue: str, count: int, timeout: float = 10) -> list[dict[str, Any]]:
        """The next facts of a ledger queue; fails when the last message holds more than that."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            (message,) = await self.take(queue, timeout=timeout)
            found += json.loads(message.body)
        assert len(found) == count, [each["kind"] for each in found]
        return found


def as_message(raw: AbstractIncomingMessage) -> Message:
    """The parts that notifier reads."""
    return Message(raw.body, dict(raw.headers), raw.content_type, raw.message_id, raw.correlation_id)
