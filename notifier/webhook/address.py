"""How an address is written for people."""

from __future__ import annotations

from typing import Any


def spelled(address: tuple[Any, ...]) -> str:
    """A socket address as `host:port`, IPv6 in brackets."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
