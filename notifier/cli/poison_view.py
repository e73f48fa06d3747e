"""How messages of the poison queue are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from notifier.broker.poison import Poisoned
from notifier.cli.table import print_table

_WIDE = 200
#: What a terminal would obey instead of showing it. Poison comes from anywhere.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def as_json(poisoned: Poisoned) -> dict[str, Any]:
    """One message as `list --json` tells it."""
    return {
        "id": poisoned.id,
        "message_id": poisoned.message.message_id,
        "since": _iso(poisoned.since),
        "tier": poisoned.tier.name if poisoned.tier else None,
        "merchant": _merchant(poisoned),
        "reason": poisoned.reason,
        "bytes": len(poisoned.message.body),
    }


def whole_as_json(poisoned: Poisoned) -> dict[str, Any]:
    """One message whole. payload: text where it is UTF-8; otherwise payload_hex."""
    message = poisoned.message
    payload = _text(message.body)
    return {
        **as_json(poisoned),
        "correlation_id": message.correlation_id,
        "content_type": message.content_type,
        "headers": _plain(message.headers),
        **({"payload_hex": message.body.hex()} if payload is None else {"payload": payload}),
    }


def print_json(value: Any) -> None:
    """JSON for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_list(found: Sequence[Poisoned], count: int, queue: str) -> None:
    """A table for people."""
    if not found:
        typer.echo(f"{queue} is empty")
        return
    print_table(
        ["ID", "SINCE", "TIER", "MERCHANT", "WHY"],
        [
            [
                _visible(poisoned.id),
                _iso(poisoned.since) or "?",
                poisoned.tier.name if poisoned.tier else "?",
                _visible(_merchant(poisoned) or "?"),
                _visible(poisoned.reason),
            ]
            for poisoned in found
        ],
    )
    more = f"; {count - len(found):,} more, see --limit" if count > len(found) else ""
    typer.echo(f"\n{len(found):,} shown{more}. To go on: notifier poison show|requeue|discard ID")


def print_whole(poisoned: Poisoned) -> None:
    """Everything about one message, for people."""
    from rich.table import Table
    from rich.text import Text

    console, message = _console(), poisoned.message
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("id", Text(_visible(poisoned.id), style="bold"))
    table.add_row("why", Text(_visible(poisoned.reason), style="yellow"))
    table.add_row("since", _iso(poisoned.since) or "unknown")
    table.add_row("tier", poisoned.tier.name if poisoned.tier else "unknown")
    for name, value in (
        ("message_id", message.message_id),
        ("correlation_id", message.correlation_id),
        ("content_type", message.content_type),
    ):
        if value is not None:
            table.add_row(name, Text(_visible(value)))
    for name, header in sorted(_plain(message.headers).items()):
        shown = header if isinstance(header, str) else json.dumps(header, ensure_ascii=False)
        table.add_row(Text(_visible(f"header {name}")), Text(_visible(shown)))
    console.print(table)
    console.print(Text(f"\npayload, {len(message.body):,} bytes", style="dim"))
    text = _text(message.body)
    typer.echo(_hex_dump(message.body) if text is None else _visible(text))


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def _merchant(poisoned: Poisoned) -> str | None:
    stated = poisoned.message.headers.get("merchant")
    return None if stated is None else str(_plain(stated))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _text(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _hex_dump(body: bytes) -> str:
    """Sixteen bytes a line: place, hex, and what of it is ASCII."""
    lines = []
    for start in range(0, len(body), 16):
        piece = body[start : start + 16]
        ascii_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{start:08x}  {piece.hex(' '):<47}  {ascii_}")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """AMQP values as JSON values: bytes as text or hex, moments in ISO 8601, the rest by its text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        return _text(bytes(value)) or bytes(value).hex()
    if isinstance(value, datetime):
        return _iso(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
