"""One private RabbitMQ node for all workers of a run: it belongs to the process that hands out the tests."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from pathlib import Path

from notifier.broker.node import PrivateNode
from notifier.errors import NotifierError

#: Before the reason in the place of the address.
_FAILED = "failed: "


class SharedBroker:
    """A node in a thread's event loop, from now until `stop`; gone with this process, however that ends.

    place: the file in which its address stands once it takes connections.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="notifier-tests-")
        self.place = Path(self._directory.name) / "address"
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="shared broker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when it is gone."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._directory.cleanup()

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._hold())

    async def _hold(self) -> None:
        try:
            async with await PrivateNode.start() as node:
                self._tell(node.url)
                await self._ended.wait()
        except NotifierError as error:
            self._tell(f"{_FAILED}{error}")

    def _tell(self, line: str) -> None:
        written = self.place.with_suffix(".new")
        written.write_text(line)
        written.rename(self.place)  # whole, or not there


def address_in(place: Path) -> str:
    """The address of the node, as soon as it takes connections. Raises AssertionError with why it never will."""
    deadline = time.monotonic() + 90
    while not place.exists():  # another process writes it, and this one has nothing to do without it
        assert time.monotonic() < deadline, "the broker of all workers did not boot in 90 s"
        time.sleep(0.05)
    said = place.read_text()
    assert not said.startswith(_FAILED), said
    return said
