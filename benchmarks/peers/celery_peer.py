"""Celery: quorum queues, confirms, and its native delay (a cascade of queues on the broker).

Acknowledged late and one at a time (task_acks_late, worker_prefetch_multiplier), as its guide advises for tasks that
may take long: so that nothing lies reserved behind a task that hangs. Publishing threads take a connection each.
"""

from __future__ import annotations

import callback
import steady
from celery import Celery
from kombu import Exchange, Queue

app = Celery("celery_peer", broker=callback.BROKER)
app.conf.update(
    task_queues=[
        Queue(
            callback.QUEUE,
            Exchange(callback.QUEUE, type="topic"),  # its delay needs one
            routing_key=callback.QUEUE,
            queue_arguments={"x-queue-type": "quorum"},
        )
    ],
    task_default_queue=callback.QUEUE,
    task_default_exchange=callback.QUEUE,
    task_default_exchange_type="topic",
    task_default_routing_key=callback.QUEUE,
    task_default_queue_type="quorum",
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    broker_transport_options={"confirm_publish": True},
    broker_pool_limit=32,
    broker_connection_retry_on_startup=True,
)


@app.task(name="notify")
def notify(notification: str, url: str, payload: str) -> None:
    """One callback."""
    callback.started(notification)
    callback.post(notification, url, payload)


if __name__ == "__main__":
    steady.from_threads(lambda *stated: notify.apply_async(stated, countdown=int(callback.DELAY)))
