"""What is sent: the same notifications to both sides."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Merchants, in turn.
MERCHANTS = 100


@dataclass(frozen=True, slots=True)
class Item:
    """One notification."""

    id: str
    merchant: str
    url: str
    payload: bytes


def items(prefix: str, count: int, url: str) -> list[Item]:
    """Notifications of a hundred merchants in turn, a payload of about 200 bytes each. prefix: of their ids."""
    return [
        Item(f"{prefix}-{number:06}", f"shop-{number % MERCHANTS}", url, _payload(number)) for number in range(count)
    ]


def write_lines(items: Iterable[Item], file: Path) -> None:
    """As JSON lines, for `notifier enqueue --file` and for the bare loop."""
    with file.open("w") as lines:
        for item in items:
            stated = {"merchant": item.merchant, "url": item.url, "id": item.id, "payload": json.loads(item.payload)}
            lines.write(json.dumps(stated) + "\n")


def _payload(number: int) -> bytes:
    order = {
        "type": "order.paid",
        "order": f"A-{number:08}",
        "amount": {"value": 1990, "currency": "EUR"},
        "paid_at": "2026-01-01T12:00:00Z",
        "customer": {"id": f"c-{number % 1000:05}", "country": "DE"},
        "lines": [{"sku": "tea-42", "quantity": 2}],
    }
    return json.dumps(order, separators=(",", ":")).encode()
