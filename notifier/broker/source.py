"""Where `notifier dev` gets RabbitMQ from: the one that is named, a container, or a private node."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from notifier.broker import container
from notifier.broker.cleanup import delete_namespace
from notifier.broker.node import PrivateNode
from notifier.settings import load, without_password

_VARIABLE = "NOTIFIER_AMQP_URL"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker to play with. namespace: one that nobody else uses. description: for people, without the password."""

    url: str
    namespace: str
    description: str


@contextlib.asynccontextmanager
async def open_broker(told: Callable[[str], None]) -> AsyncIterator[Broker]:
    """A broker until the end of the block, in this order: NOTIFIER_AMQP_URL, a container, a private node.

    told: gets a sentence about each thing that takes time. What was started is gone afterwards; on a named broker the
    objects of the throw-away namespace are. Raises NoBroker naming all ways when there is none.
    """
    if url := os.environ.get(_VARIABLE):
        told(f"using the RabbitMQ of {_VARIABLE}, in a namespace of its own")
        namespace = f"notifier-dev-{secrets.token_hex(4)}"
        try:
            yield Broker(url, namespace, f"{without_password(url)} (namespace {namespace})")
        finally:
            await delete_namespace(url, namespace, load().tiers, load().partitions)
    elif container.engine_answers():
        told(f"starting RabbitMQ in a container ({container.IMAGE}); the first time its image is fetched")
        async with container.running() as url:
            yield Broker(url, "notifier", f"{without_password(url)} (container {container.IMAGE})")
    else:
        told("starting a private RabbitMQ node")
        began = time.monotonic()
        async with await PrivateNode.start() as node:
            told(f"RabbitMQ is up after {time.monotonic() - began:.1f} s")
            yield Broker(node.url, "notifier", f"{without_password(node.url)} (private node)")
