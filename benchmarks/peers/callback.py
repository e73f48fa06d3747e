"""What every peer's task does: write down when it started, then post, for at most ten seconds.

Settings, from the environment: PEER_BROKER, PEER_QUEUE, PEER_ATTEMPTS (directory).
"""

from __future__ import annotations

import os
import threading
import time
from functools import lru_cache
from pathlib import Path

import requests

BROKER = os.environ["PEER_BROKER"]
QUEUE = os.environ["PEER_QUEUE"]
TIMEOUT = 10.0
DELAY = 1.0
_OWN = threading.local()


def started(notification: str) -> None:
    """A line as the receiver writes them: moment, id, attempt."""
    os.write(_file(os.getpid()), f"{time.time():.6f} {notification} 1\n".encode())


def post(notification: str, url: str, payload: str) -> None:
    """For tasks that block: one connection a thread, kept between tasks. What is not answered in time has failed."""
    if not hasattr(_OWN, "session"):
        _OWN.session = requests.Session()
        _OWN.session.trust_env = False  # whose look-up of proxies costs more than the request
    try:
        _OWN.session.post(url, data=payload.encode(), headers=headers(notification), timeout=TIMEOUT)
    except requests.RequestException:
        return  # a failed attempt: this benchmark makes one


def headers(notification: str) -> dict[str, str]:
    """Those that the receiver logs."""
    return {"webhook-id": notification, "notifier-attempt": "1", "Content-Type": "application/json"}


@lru_cache
def _file(pid: int) -> int:
    """One for each process, also after a fork. A write of a line to the end of it is whole, in whatever thread."""
    return os.open(Path(os.environ["PEER_ATTEMPTS"]) / f"{pid}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
