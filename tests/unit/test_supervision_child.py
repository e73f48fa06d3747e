"""The child's view of the master: played by this process against a master that is a bare channel."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from notifier.errors import ChildFailed, PeerGone, RequestFailed
from notifier.supervision import child
from notifier.supervision.actions import Sender
from notifier.supervision.channel import Body, Channel
from notifier.supervision.child import PROTOCOL, Parent

SNAPSHOT: dict[str, Any] = {"boot": {"tea": "green"}, "drain": 25.0, "careful": 1, "deaths": {"k": 2}, "stacks": 2}
#: The whole desired state, in one batch.
STATE: dict[str, Any] = {"entries": [], "version": 0, "whole": True, "first": True, "last": True}


class FakeMaster:
    """Notes what the child says but its heartbeats, answers HELLO with `snapshot`, followed by the desired state, and
    the rest with nothing, after `before_answer`.
    """

    def __init__(self) -> None:
        self.beats: asyncio.Queue[Body] = asyncio.Queue()
        self.state = STATE
        self.snapshot: dict[str, Any] = SNAPSHOT
        self.heard: asyncio.Queue[tuple[str, Body]] = asyncio.Queue()
        self.before_answer: Callable[[], None] = lambda: None
        self.channel: Channel

    def noticed(self, name: str, body: Body) -> None:
        if name == "beat":
            self.beats.put_nowait(body)
        else:
            self.heard.put_nowait((name, body))

    def asked(self, name: str, body: Body) -> Body:
        self.heard.put_nowait((name, body))
        self.before_answer()
        if name != "hello":
            return {}
        asyncio.get_running_loop().call_soon(self.channel.request, "state", self.state)
        return self.snapshot

    def link_ended(self, reason: str, *, broken: bool) -> None:
        self.heard.put_nowait(("end", {"broken": broken}))


class Family:
    def __init__(self, master: FakeMaster, fd: int) -> None:
        self.master = master
        self.fd = fd

    async def join(self) -> Parent:
        parent = await Parent.join(self.fd, "toy:1", 7, own_process=False)
        assert (await self.master.heard.get())[0] == "hello"
        return parent


@pytest.fixture
async def family() -> AsyncIterator[Family]:
    ours, theirs = socket.socketpair()
    master = FakeMaster()
    master.channel = await Channel.open(ours, master)
    yield Family(master, theirs.detach())
    await master.channel.close()


async def test_joining_says_who_it_is_and_takes_the_snapshot(family: Family) -> None:
    parent = await Parent.join(family.fd, "toy:1", 7, own_process=False)
    hello = {"protocol": PROTOCOL, "slot": "toy:1", "epoch": 7, "pid": os.getpid()}
    assert await family.master.heard.get() == ("hello", hello)
    assert (dict(parent.boot), parent.careful, dict(parent.deaths)) == ({"tea": "green"}, 1, {"k": 2})
    assert not os.get_inheritable(family.fd)
    await parent.close()


@pytest.mark.parametrize("snapshot", [{}, {**SNAPSHOT, "careful": "very"}, {**SNAPSHOT, "boot": None}])
async def test_a_snapshot_that_makes_no_sense_is_refused(family: Family, snapshot: dict[str, Any]) -> None:
    family.master.snapshot = snapshot
    with pytest.raises(ChildFailed, match="cannot be understood"):
        await Parent.join(family.fd, "toy:1", 7, own_process=False)


async def test_joining_a_master_that_is_gone_fails_at_once(family: Family) -> None:
    await family.master.channel.close()
    with pytest.raises(PeerGone):
        await Parent.join(family.fd, "toy:1", 7, own_process=False)


async def test_what_the_child_says_reaches_the_master_in_order(family: Family) -> None:
    parent = await family.join()
    await parent.progress("waiting for the kettle")
    await parent.ready()
    await parent.claim(["a", "b"])
    await parent.calm()
    await parent.refuse(78, "no tea")
    await parent.close()
    assert [await family.master.heard.get() for _ in range(6)] == [
        ("progress", {"sentence": "waiting for the kettle"}),
        ("ready", {}),
        ("claim", {"keys": ["a", "b"]}),
        ("calm", {}),
        ("refuse", {"code": 78, "message": "no tea"}),
        ("end", {"broken": False}),
    ]


async def test_a_claim_returns_only_after_the_master_has_it(family: Family) -> None:
    parent = await family.join()
    await parent.claim(["a"])
    assert family.master.heard.get_nowait() == ("claim", {"keys": ["a"]})  # already there, without waiting
    await parent.close()


async def test_a_claim_the_master_refuses_raises(family: Family) -> None:
    parent = await family.join()

    def refuse() -> None:
        raise ChildFailed("not now")

    family.master.before_answer = refuse
    with pytest.raises(RequestFailed, match="not now"):
        await parent.claim(["a"])
    await parent.close()


async def test_a_master_that_stands_still_is_asked_again_until_it_has_the_claim(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the claim has deliveries in hand: it must neither work on them nor forget them."""
    monkeypatch.setattr(child, "PATIENCE", 0.05)
    monkeypatch.setattr(child, "AGAIN", 0.01)
    parent = await family.join()
    asked, hears = family.master.asked, asyncio.Event()

    async def late(name: str, body: Body) -> Body:
        await hears.wait()
        return asked(name, body)

    monkeypatch.setattr(family.master, "asked", late)
    claiming = asyncio.create_task(parent.claim(["a"]))
    done, _ = await asyncio.wait([claiming], timeout=0.3)
    assert not done
    hears.set()
    async with asyncio.timeout(5):
        await claiming
        await parent.calm()
    assert await family.master.heard.get() == ("claim", {"keys": ["a"]})
    await parent.close()


async def test_a_key_too_long_to_be_remembered_is_not_claimed(family: Family) -> None:
    parent = await family.join()
    with pytest.raises(ValueError, match="at most 256 characters"):
        await parent.claim(["x" * 257])
    await parent.close()


@pytest.mark.parametrize(("word", "quick"), [("drain", False), ("quick", True)])
async def test_the_masters_words_set_the_events(family: Family, word: str, quick: bool) -> None:
    parent = await family.join()
    assert not parent.draining.is_set()
    family.master.channel.tell(word)
    async with asyncio.timeout(5):
        await parent.draining.wait()
    assert parent.quick.is_set() is quick
    await parent.close()


async def test_a_master_that_goes_means_drain_and_fails_what_waits_for_it(family: Family) -> None:
    parent = await family.join()
    family.master.before_answer = lambda: family.master.channel._writer.transport.abort()
    async with asyncio.timeout(5):
        with pytest.raises(PeerGone):
            await parent.claim(["a"])
        await parent.draining.wait()
    assert not parent.quick.is_set()
    with pytest.raises(PeerGone):
        await parent.calm()
    await parent.ready()  # nobody hears it, and draining says so already
    await parent.refuse(78, "nobody hears this either")
    await parent.close()


async def test_an_unknown_word_of_the_master_ends_the_link_which_means_drain(family: Family) -> None:
    parent = await family.join()
    family.master.channel.tell("sing")
    async with asyncio.timeout(5):
        await parent.draining.wait()
    await parent.close()


async def test_closing_twice_is_fine_and_sets_draining(family: Family) -> None:
    parent = await family.join()
    await parent.close()
    await parent.close()
    assert parent.draining.is_set()


# --- heartbeats, state, messages


async def beat_where(family: Family, **fields: Any) -> Body:
    async with asyncio.timeout(10):
        while True:
            beat = await family.master.beats.get()
            if fields.items() <= beat.items():
                return beat


async def test_a_heartbeat_tells_version_pause_and_statistics(family: Family) -> None:
    family.master.state = {**STATE, "version": 7, "entries": [{"key": "k", "value": 1, "version": 7}]}
    parent = await family.join()
    assert (dict(parent.state), parent.version) == ({"k": 1}, 7)
    parent.statistics = lambda: {"cups": 3}
    parent.paused = True
    assert await beat_where(family, paused=True) == {"version": 7, "paused": True, "statistics": {"cups": 3}}
    await parent.close()


@pytest.mark.parametrize(
    ("statistics", "error"),
    [(lambda: 1 / 0, "ZeroDivisionError"), (lambda: {"x": {1}}, "JSON"), (lambda: {"x": "x" * 2_000_000}, "too long")],
)
async def test_statistics_that_fail_cost_the_child_nothing(
    family: Family, statistics: Callable[[], Any], error: str
) -> None:
    parent = await family.join()
    parent.statistics = statistics
    parent.paused = True
    assert error in (await beat_where(family, paused=True))["statistics"]["error"]
    await parent.close()


async def test_a_child_joins_only_with_the_whole_state(family: Family) -> None:
    family.master.state = {**STATE, "last": False}
    joining = asyncio.create_task(family.join())
    await family.master.heard.get()
    assert not joining.done()
    await family.master.channel.ask("state", {**STATE, "first": False}, timeout=10)
    await family.master.heard.put(("hello", {}))
    await (await joining).close()


async def test_a_master_that_goes_before_the_state_is_whole_is_gone(family: Family) -> None:
    family.master.state = {**STATE, "last": False}
    joining = asyncio.create_task(family.join())
    await family.master.heard.get()
    await family.master.channel.close()
    with pytest.raises(PeerGone):
        await joining


async def test_a_change_is_answered_when_its_follower_has_returned(family: Family) -> None:
    parent = await family.join()
    done = asyncio.Event()

    async def follower(key: str, value: Any) -> None:
        await done.wait()

    await parent.follow(follower)
    batch = {"entries": [{"key": "k", "value": 1, "version": 1}], "version": 1, "whole": False, "first": False}
    answer = family.master.channel.request("state", {**batch, "last": True})
    await family.master.channel.ask("stacks", timeout=10)  # asked later, answered earlier
    assert not answer.done()
    done.set()
    assert await answer == {"errors": {}}
    await parent.close()


async def test_an_action_has_one_handler(family: Family) -> None:
    parent = await family.join()

    async def handler(data: Any, sender: Sender) -> Any:
        return [data, sender.slot, sender.epoch]

    parent.on("brew", handler)
    with pytest.raises(ValueError, match="'brew' has a handler already"):
        parent.on("brew", handler)
    said = {"action": "brew", "data": "green", "sender": {"slot": "toy:2", "epoch": 4}}
    assert await family.master.channel.ask("action", said, timeout=10) == {"data": ["green", "toy:2", 4]}
    await parent.close()


async def test_an_action_that_awaited_what_was_cancelled_is_answered(family: Family) -> None:
    parent = await family.join()

    async def handler(data: Any, sender: Sender) -> Any:
        gone = asyncio.create_task(asyncio.sleep(60))
        gone.cancel()
        await gone

    parent.on("brew", handler)
    said = {"action": "brew", "data": None, "sender": {"slot": "toy:2", "epoch": 4}}
    with pytest.raises(RequestFailed, match="CancelledError"):
        await family.master.channel.ask("action", said, timeout=10)
    await parent.close()
