"""A paced producer: so many a second, each with a due moment of its own that is written down.

PEER.py ITEMS RATE DUE    publish the lines of ITEMS; `id moment` of each into DUE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from callback import DELAY

#: Publishes that block for their confirm go out from so many threads, so that none waits for the one before.
_THREADS = 32

Stated = dict[str, Any]


def from_threads(send: Callable[[str, str, str], object]) -> None:
    """Publish with a client that blocks. send: of id, url and payload."""
    items, rate, file = _arguments()
    due: dict[str, float] = {}

    def publish(stated: Stated) -> None:
        due[stated["id"]] = time.time() + DELAY
        send(stated["id"], stated["url"], json.dumps(stated["payload"], separators=(",", ":")))

    began = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as threads:
        sending = []
        for number, stated in enumerate(items):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            sending.append(threads.submit(publish, stated))
        for each in sending:
            each.result()
    _write(file, due)


async def from_tasks(send: Callable[[str, str, str], Awaitable[object]]) -> None:
    """Publish with a client that is awaited. send: of id, url and payload."""
    items, rate, file = _arguments()
    due: dict[str, float] = {}

    async def publish(stated: Stated) -> None:
        due[stated["id"]] = time.time() + DELAY
        await send(stated["id"], stated["url"], json.dumps(stated["payload"], separators=(",", ":")))

    began = time.monotonic()
    async with asyncio.TaskGroup() as sending:
        for number, stated in enumerate(items):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            sending.create_task(publish(stated))
    _write(file, due)


def _arguments() -> tuple[list[Stated], float, Path]:
    items, rate, file = sys.argv[1:]
    return [json.loads(line) for line in Path(items).read_text().splitlines()], float(rate), Path(file)


def _write(file: Path, due: dict[str, float]) -> None:
    file.write_text("".join(f"{each} {moment:.6f}\n" for each, moment in due.items()))
