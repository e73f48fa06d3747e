"""Dramatiq: durable queues and confirms; a delayed message waits in the memory of a worker, unacknowledged."""

from __future__ import annotations

import callback
import dramatiq
import steady
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url=callback.BROKER, confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=callback.QUEUE, max_retries=0)
def notify(notification: str, url: str, payload: str) -> None:
    """One callback."""
    callback.started(notification)
    callback.post(notification, url, payload)


if __name__ == "__main__":
    steady.from_threads(lambda *stated: notify.send_with_options(args=stated, delay=int(callback.DELAY * 1000)))
