"""Every test of the client runs on both event loops: tier processes use uvloop, users' programs may not.

On asyncio's own only `test_webhook_client` is in the quick suite, all others in the long one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

HERE = Path(__file__).parent


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which are long is known before they are chosen by it."""
    for item in items:
        here = item.path.parent == HERE and item.path.name != "test_webhook_client.py"
        if here and isinstance(item, pytest.Function) and item.name.partition("[")[2].startswith("asyncio"):
            item.add_marker(pytest.mark.long)


class ForbiddenSocket(socket.socket):
    """No socket towards a network may be made; event loops make others for themselves."""

    def __init__(self, family: int = -1, *arguments: Any, **named: Any) -> None:
        assert family == socket.AF_UNIX, "a socket was created for a refused address"
        super().__init__(family, *arguments, **named)


@pytest.fixture
def no_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", ForbiddenSocket)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The families of the sockets that the guard opened."""
    families: list[int] = []

    def watched(**asked: int) -> socket.socket:
        families.append(asked["family"])
        return socket.socket(**asked)

    monkeypatch.setattr("notifier.webhook.guard.socket", SimpleNamespace(socket=watched))
    return families
