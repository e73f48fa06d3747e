"""The options that say something about a merchant, as the fields that the registry reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from notifier.errors import NotifierError

#: Takes a field back to what the service does without it.
DEFAULT = "default"
NONE = "none"


def stated(
    url: str | None,
    ladder: str | None,
    ack: str | None,
    concurrency: str | None,
    rate: str | None,
    headers: Sequence[str] | None,
    secret: str | None,
) -> dict[str, Any]:
    """Only what was said; None for what was taken back. Whether it is possible is judged by the registry.

    Raises BadParameter for what is no number or no header, NotifierError for a secret's file that cannot be read.
    """
    fields: dict[str, Any] = {}
    if url is not None:
        fields["url"] = None if url == NONE else url
    for name, value in (("ladder", ladder), ("ack", ack)):
        if value is not None:
            fields[name] = None if value == DEFAULT else value
    if concurrency is not None:
        fields["concurrency"] = None if concurrency == DEFAULT else _whole(concurrency)
    if rate is not None:
        fields["rate"] = None if rate == DEFAULT else _number(rate)
    if headers:
        fields["headers"] = dict(_header(text) for text in headers)
    if secret is not None:
        fields["secret"] = _secret(secret)
    return fields


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r:.40} is no whole number, nor {DEFAULT}", param_hint="--concurrency")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r:.40} is no number, nor {DEFAULT}", param_hint="--rate") from None


def _header(text: str) -> tuple[str, str | None]:
    """As curl writes it: `NAME: VALUE`, and `NAME:` for one to take away. The value may be a credential: not told."""
    name, colon, value = text.partition(":")
    if not colon:
        raise typer.BadParameter("write a header as 'NAME: VALUE', or 'NAME:' to take it away", param_hint="--header")
    return name.strip(), value.strip() or None


def _secret(text: str) -> str:
    """From stdin or a file, so that it need not stand in the list of processes."""
    if text == "-":
        return sys.stdin.readline().strip()
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text().strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise NotifierError(f"the secret's file {text[1:]} cannot be read: {why}") from None
