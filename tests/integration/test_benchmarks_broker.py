"""The broker of a benchmark."""

from __future__ import annotations

from pathlib import Path

import aio_pika
import pytest

from benchmarks.broker import open_broker

pytestmark = pytest.mark.long  # a boot of its own, for what no user of the service meets


def _logs(directory: Path) -> list[int]:
    """The sizes of the files of the log of quorum queues."""
    return [file.stat().st_size for file in directory.rglob("*.wal")]


async def test_a_broker_that_settled_has_written_out_its_log_and_keeps_every_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NOTIFIER_AMQP_URL", raising=False)
    async with open_broker() as broker, await aio_pika.connect(broker.url) as connection:
        assert broker.node is not None
        assert broker.pid == broker.node.pid
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"})
        for _ in range(200):
            await channel.default_exchange.publish(aio_pika.Message(b"x" * 3000), queue.name)
        assert max(_logs(broker.node.directory)) > 200 * 3000
        await broker.settle()
        assert max(_logs(broker.node.directory)) < 3000
        assert sum(file.stat().st_size for file in broker.node.directory.rglob("*.segment")) > 200 * 3000
        assert await broker.ready(queue.name) == 200
