"""Many notifications on their way in at once: their ids come out in order, whatever the broker and the reader do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from notifier.cli import sending as module
from notifier.cli.sending import Receipts, Sending
from notifier.domain.notification import Notification
from notifier.errors import PublishRefused


class Gate:
    """An entrance whose confirms come when the test says so. waiting: what was handed in and is not confirmed."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[None]] = {}
        self.most = 0
        self.taken = 0
        self.open = False
        self._arrived = asyncio.Event()

    async def accept(self, notification: Notification) -> Notification:
        confirm = asyncio.get_running_loop().create_future()
        self.waiting[notification.id] = confirm
        self.most = max(self.most, len(self.waiting))
        self.taken += 1
        self._arrived.set()
        try:
            if not self.open:
                await confirm
            else:
                await asyncio.sleep(0)
        finally:
            del self.waiting[notification.id]
        return notification

    async def holds(self, count: int) -> None:
        """Wait until so many are not confirmed."""
        await self._until(lambda: len(self.waiting) >= count)

    async def took(self, count: int) -> None:
        """Wait until so many were handed in, confirmed or not."""
        await self._until(lambda: self.taken >= count)

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                self._arrived.clear()
                await self._arrived.wait()

    def confirm(self, *ids: str) -> None:
        for each in ids:
            self.waiting[each].set_result(None)

    def refuse(self, each: str) -> None:
        self.waiting[each].set_exception(PublishRefused("the queue is full"))


class Pipe:
    """A pipe that takes the place of stdout."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    async def lines(self, count: int) -> list[str]:
        """The next lines, awaited."""
        text = b""
        while text.count(b"\n") < count:
            text += await asyncio.to_thread(os.read, self.reader, 65_536)
        return text.decode().split()

    def rest(self) -> list[str]:
        """What is left once nothing more is written."""
        os.close(self.writer)
        with os.fdopen(self.reader) as reader:
            return reader.read().split()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reader, pipe.writer):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test closed it


@pytest.fixture
def gate() -> Gate:
    return Gate()


Start = Callable[[int | None], Sending]


@pytest.fixture
async def start(gate: Gate) -> AsyncIterator[Start]:
    started: list[Sending] = []

    def begin(descriptor: int | None) -> Sending:
        refused: list[tuple[int, str]] = []
        lost: list[str] = []
        sending = Sending(gate, Receipts(descriptor, lost.append), lambda line, why: refused.append((line, why)))  # type: ignore[arg-type]
        sending.refused, sending.lost = refused, lost  # type: ignore[attr-defined]
        started.append(sending)
        return sending

    yield begin
    for sending in started:
        await sending.abandon()


def notification(name: str, size: int = 2) -> Notification:
    return Notification(name, "m", b"x" * size)


async def add(sending: Sending, *names: str) -> None:
    for line, name in enumerate(names, start=1):
        await sending.add(line, notification(name))


async def test_ids_come_out_in_the_order_of_the_lines_whatever_is_confirmed_first(
    start: Start, gate: Gate, pipe: Pipe
) -> None:
    sending = start(pipe.writer)
    await add(sending, "a", "b", "c")
    await gate.holds(3)
    gate.confirm("c", "b")
    gate.confirm("a")
    await sending.finish()
    assert pipe.rest() == ["a", "b", "c"]
    assert sending.accepted == 3


async def test_what_is_confirmed_is_told_before_the_next_is(start: Start, gate: Gate, pipe: Pipe) -> None:
    sending = start(pipe.writer)
    await add(sending, "a", "b")
    await gate.holds(2)
    gate.confirm("a")
    async with asyncio.timeout(10):
        assert await pipe.lines(1) == ["a"]
    gate.confirm("b")
    await sending.finish()
    assert pipe.rest() == ["b"]


async def test_what_the_broker_refuses_is_told_by_its_line_and_the_others_are_sent(
    start: Start, gate: Gate, pipe: Pipe
) -> None:
    sending = start(pipe.writer)
    await add(sending, "a", "b", "c")
    await gate.holds(3)
    gate.refuse("b")
    gate.confirm("a", "c")
    await sending.finish()
    assert pipe.rest() == ["a", "c"]
    assert sending.refused == [(2, "the queue is full")]  # type: ignore[attr-defined]
    assert sending.accepted == 2


async def test_no_more_are_under_way_than_the_bound(
    start: Start, gate: Gate, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    gate.open = True
    sending = start(pipe.writer)
    names = [f"n{number}" for number in range(200)]
    await add(sending, *names)
    await sending.finish()
    assert 1 < gate.most <= 10
    assert pipe.rest() == names


async def test_large_payloads_fill_the_bound_sooner_and_one_beyond_it_still_goes(
    start: Start, gate: Gate, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    sending = start(pipe.writer)
    await sending.add(1, notification("small", 400))
    await sending.add(2, notification("fits", 600))
    third = asyncio.create_task(sending.add(3, notification("huge", 5000)))
    await gate.holds(2)
    assert not third.done()
    gate.confirm("small", "fits")
    await third
    await gate.holds(1)
    gate.confirm("huge")
    await sending.finish()
    assert pipe.rest() == ["small", "fits", "huge"]


async def test_a_reader_that_is_slow_to_start_gets_every_id(
    start: Start, gate: Gate, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds, and more than may be under way: reading and sending must wait for each other."""
    monkeypatch.setattr(module, "MOST", 8)
    gate.open = True
    sending = start(pipe.writer)
    names = [f"{number:0>100}" for number in range(3000)]

    async def produce() -> None:
        await add(sending, *names)
        await sending.finish()

    producing = asyncio.create_task(produce())
    await gate.took(600)  # the pipe takes 648 of these
    async with asyncio.timeout(20):
        read = await pipe.lines(len(names))
        await producing
    assert read == names


async def test_a_reader_that_leaves_stops_nothing_and_is_told_once(start: Start, gate: Gate, pipe: Pipe) -> None:
    gate.open = True
    sending = start(pipe.writer)
    os.close(pipe.reader)
    await add(sending, *[f"n{number}" for number in range(50)])
    await sending.finish()
    assert sending.accepted == 50
    assert sending.lost == ["the reader of stdout left"]  # type: ignore[attr-defined]


async def test_without_a_stdout_everything_is_sent_all_the_same(start: Start, gate: Gate) -> None:
    gate.open = True
    sending = start(None)
    await add(sending, "a", "b")
    await sending.finish()
    assert sending.accepted == 2
    assert sending.lost == ["stdout is closed"]  # type: ignore[attr-defined]


async def test_what_is_abandoned_unconfirmed_is_named_and_what_was_confirmed_is_printed(
    start: Start, gate: Gate, pipe: Pipe
) -> None:
    sending = start(pipe.writer)
    await add(sending, "a", "b", "c", "d")
    await gate.holds(4)
    gate.confirm("a", "c")
    await asyncio.sleep(0)
    assert await sending.abandon() == [2, 4]
    assert pipe.rest() == ["a", "c"]
    assert sending.accepted == 2


async def test_a_fault_of_ours_ends_the_producing_instead_of_blocking_it(
    start: Start, gate: Gate, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    sending = start(pipe.writer)
    await add(sending, "a", "b")
    await gate.holds(2)
    gate.waiting["a"].set_exception(ZeroDivisionError("unforeseen"))
    with pytest.raises(ZeroDivisionError, match="unforeseen"):
        await add(sending, "c", "d", "e", "f")
