"""A cancellation that is lost below is heeded all the same.

Python 3.11's wait_for loses one that comes together with an answer, and aiormq replaces one that comes while a channel
ends by what ended the channel. Here whatever stands for the library does so each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.channel import Channel
from aiormq.exceptions import ChannelClosed, ChannelLockedResource, ChannelNotFoundEntity

from notifier.agent.watched import watched
from notifier.broker import connection
from notifier.broker.connection import Link, was_cut
from notifier.broker.inspect import Look
from notifier.broker.kept_record import KeptRecord
from notifier.broker.node import PrivateNode
from notifier.broker.poison_queue import Held
from notifier.broker.record import Record, is_marked
from notifier.broker.reshaping import exists
from notifier.broker.topology import Topology
from notifier.errors import BrokerError


class Losing:
    """Stands for a call of the library: it waits, and ends otherwise than by the first cancellation that comes."""

    def __init__(self, outcome: Any) -> None:
        self.begun = asyncio.Event()
        self._outcome = outcome

    async def __call__(self, *_: Any, **__: Any) -> Any:
        lost = self.begun.is_set()
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if lost:
                raise
            if isinstance(self._outcome, BaseException):
                raise self._outcome from None
            return self._outcome


class Ended:
    """A connection that says goodbye at once."""

    def __init__(self) -> None:
        self.closing = asyncio.get_running_loop().create_future()

    async def channel(self, **_: Any) -> Any:
        return SimpleNamespace(is_closed=False)

    async def close(self) -> None:
        self.closing.set_result(None)


class Thrown(Channel):
    """A channel to throw away, on a connection that opens no other: it answers all questions with this call."""

    def __init__(self, asked: Any, close: Any) -> None:
        self.queue_declare = self.exchange_declare = asked
        self.close = close

    @property
    def connection(self) -> Any:
        return self

    async def channel(self, **_: Any) -> Channel:
        return self

    @property
    def is_closed(self) -> bool:
        return False


async def ended(work: Coroutine[Any, Any, Any] | asyncio.Task[Any], call: Losing) -> asyncio.Task[Any]:
    """Cancelled once, in this call."""
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    async with asyncio.timeout(10):
        await call.begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=2)
    is_over = task.done()
    task.cancel()
    await asyncio.wait([task])
    assert is_over, "it went on"
    return task


async def answered(*_: Any, **__: Any) -> Any:
    """Stands for a call of the library that loses nothing."""
    return SimpleNamespace(message_count=0, consumer_count=0)


@pytest.mark.parametrize("lost_to", ["an error", "an answer"])
async def test_a_link_that_is_being_made_is_made_no_more(lost_to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Losing(OSError("refused") if lost_to == "an error" else Ended())
    monkeypatch.setattr(connection, "connect", call)
    assert (await ended(Link(["amqp://nowhere"], "test", answered).start(), call)).cancelled()


async def insisting(call: Losing) -> None:
    channel = SimpleNamespace(is_closed=True)
    while True:
        try:
            await call()
        except BaseException as error:
            if not was_cut(channel, error):  # type: ignore[arg-type]  # all that it asks
                raise


async def test_a_call_that_was_cut_is_not_made_again_by_who_was_cancelled() -> None:
    call = Losing(ChannelClosed())
    assert (await ended(insisting(call), call)).cancelled()


async def test_nor_by_who_has_no_time_left() -> None:
    async def in_time(call: Losing) -> None:
        async with asyncio.timeout(0.01):
            await insisting(call)

    insists = asyncio.create_task(in_time(Losing(ChannelClosed())))
    await asyncio.wait([insists], timeout=2)
    assert insists.cancel() is False, "it went on"
    assert isinstance(insists.exception(), TimeoutError)


async def test_a_look_at_the_record_ends_with_its_task_and_not_as_one_that_found_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, call = KeptRecord([], TOPOLOGY), Losing(ChannelClosed())
    channel = asyncio.get_running_loop().create_future()
    channel.set_result(SimpleNamespace(is_closed=True))
    monkeypatch.setattr(kept, "_link", SimpleNamespace(channel=lambda: channel))
    monkeypatch.setattr(kept, "_record", SimpleNamespace(read=call))
    assert (await ended(kept.read(), call)).cancelled()


async def test_what_the_agent_does_all_the_time_does_not_begin_again() -> None:
    call = Losing(RuntimeError())
    assert (await ended(watched("the work", call), call)).cancelled()


TOPOLOGY = Topology("test", ())
#: What asks on a channel that is thrown away: how, and what comes instead of a cancellation that meets its end.
ASKING = {
    "a look at a queue": (lambda channel: Look(channel).queue("q"), ChannelNotFoundEntity),
    "a look at an exchange": (lambda channel: Look(channel).exchange("x"), ChannelNotFoundEntity),
    "whether there is an exchange": (lambda channel: exists(channel, "x"), ChannelNotFoundEntity),
    "whether the mark stands": (lambda channel: is_marked(channel, TOPOLOGY), ChannelNotFoundEntity),
    "the lock": (lambda channel: Record(channel, TOPOLOGY).lock(), ChannelLockedResource),
}


@pytest.mark.parametrize("what", ASKING)
async def test_one_that_comes_while_a_channel_is_closed_ends_who_asked(what: str) -> None:
    ask, _ = ASKING[what]
    close = Losing(None)
    assert (await ended(ask(Thrown(answered, close)), close)).cancelled()


@pytest.mark.parametrize("what", ASKING)
async def test_one_that_comes_while_a_refusal_does_ends_who_asked(what: str) -> None:
    ask, refusal = ASKING[what]
    asked = Losing(refusal())
    assert (await ended(ask(Thrown(asked, answered)), asked)).cancelled()


async def test_one_that_comes_together_with_the_answer_that_messages_are_coming_ends_the_taking() -> None:
    begun, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def basic_qos(*, prefetch_count: int, timeout: float | None = None) -> None:
        begun.set()
        await (asyncio.wait_for(answer, timeout) if timeout else answer)  # as aiormq does

    async def gone(_: str) -> None: ...

    channel: Any = SimpleNamespace(basic_qos=basic_qos, basic_consume=answered)
    look: Any = SimpleNamespace(queue=gone)

    async def take() -> None:
        async for _ in Held(look, channel, TOPOLOGY, 1).each():
            pass

    taking = asyncio.create_task(take())
    await begun.wait()
    answer.set_result(None)
    taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()


async def test_a_node_that_does_not_answer_in_time_did_not_boot() -> None:
    booting = asyncio.Event()
    booting.set()
    node: Any = SimpleNamespace(
        _timeout=0.01,
        _booting=booting,
        _dead=asyncio.Event(),
        _answers=Losing(False),
        _files=SimpleNamespace(complaint=lambda: "nothing"),
    )
    booted = asyncio.create_task(PrivateNode._booted(node))
    await asyncio.wait([booted], timeout=2)
    assert booted.cancel() is False, "it went on"
    with pytest.raises(BrokerError, match="did not boot"):
        booted.result()
