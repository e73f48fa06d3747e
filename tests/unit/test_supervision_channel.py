"""A channel between two ends of a real socketpair, in one process."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from notifier.errors import BadFrame, ChildFailed, NoAnswer, PeerBusy, PeerGone, RequestFailed
from notifier.supervision import channel as channels
from notifier.supervision import frames, outbox
from notifier.supervision.channel import Body, Channel


class Ear:
    """Notes what it hears; answers `double`, refuses everything else."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, Body]] = asyncio.Queue()
        self.ends: list[tuple[str, bool]] = []
        self.gates: dict[int, asyncio.Event] = defaultdict(asyncio.Event)

    def noticed(self, name: str, body: Body) -> None:
        if name == "forbidden":
            raise BadFrame("nobody may say forbidden")
        if name == "bug":
            raise KeyError("a bug of this end")
        self.heard.put_nowait((name, body))

    def asked(self, name: str, body: Body) -> Body | Awaitable[Body]:
        if name == "double":
            return {"value": 2 * body["value"]}
        if name == "later":
            return self.later(body)
        raise ChildFailed(f"no answer to {name}")

    async def later(self, body: Body) -> Body:
        await self.gates[body["gate"]].wait()
        if "error" in body:
            raise {"ours": ChildFailed, "bug": KeyError}[body["error"]]("went wrong")
        return {"gate": body["gate"], "page": "x" * body.get("size", 0)}

    def link_ended(self, reason: str, *, broken: bool) -> None:
        self.ends.append((reason, broken))


class Pair:
    def __init__(self, near: Channel, near_ear: Ear, far: Channel, far_ear: Ear) -> None:
        self.near, self.near_ear, self.far, self.far_ear = near, near_ear, far, far_ear


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    one, other = socket.socketpair()
    near_ear, far_ear = Ear(), Ear()
    pair = Pair(await Channel.open(one, near_ear), near_ear, await Channel.open(other, far_ear), far_ear)
    yield pair
    await pair.near.close()
    await pair.far.close()


@pytest.fixture
async def raw() -> AsyncIterator[tuple[Channel, Ear, socket.socket]]:
    """A channel whose peer is a bare socket."""
    one, other = socket.socketpair()
    other.setblocking(False)
    ear = Ear()
    channel = await Channel.open(one, ear)
    yield channel, ear, other
    other.close()
    await channel.close()


async def test_notices_arrive_in_order(pair: Pair) -> None:
    for number in range(500):
        pair.near.tell("count", {"number": number})
    assert [await pair.far_ear.heard.get() for _ in range(500)] == [("count", {"number": n}) for n in range(500)]


async def test_each_of_many_requests_gets_its_own_answer(pair: Pair) -> None:
    answers = await asyncio.gather(*(pair.near.ask("double", {"value": n}, timeout=5) for n in range(200)))
    assert [answer["value"] for answer in answers] == [2 * n for n in range(200)]


async def test_both_ends_may_ask_at_once(pair: Pair) -> None:
    there, back = await asyncio.gather(
        pair.near.ask("double", {"value": 1}, timeout=5), pair.far.ask("double", {"value": 10}, timeout=5)
    )
    assert (there, back) == ({"value": 2}, {"value": 20})


async def test_a_refused_request_raises_the_peers_sentence(pair: Pair) -> None:
    with pytest.raises(RequestFailed, match="no answer to divide"):
        await pair.near.ask("divide", timeout=5)


async def test_a_request_without_answer_fails_in_time(raw: tuple[Channel, Ear, socket.socket]) -> None:
    channel, _, _ = raw
    with pytest.raises(NoAnswer, match=r"'double' was not answered within 0\.01 s"):
        await channel.ask("double", timeout=0.01)


async def test_an_answer_after_its_timeout_is_dropped(raw: tuple[Channel, Ear, socket.socket]) -> None:
    channel, ear, peer = raw
    with pytest.raises(NoAnswer):
        await channel.ask("double", timeout=0.01)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(peer, frames.encode({"answer": 1, "body": {}}) + frames.encode({"tell": "on", "body": {}}))
    assert await ear.heard.get() == ("on", {})
    assert ear.ends == []


async def test_unanswered_requests_fail_at_once_when_the_peer_dies(raw: tuple[Channel, Ear, socket.socket]) -> None:
    channel, ear, peer = raw
    waiting = [asyncio.create_task(channel.ask("double", timeout=60)) for _ in range(3)]
    await asyncio.get_running_loop().sock_recv(peer, 1)
    peer.close()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, PeerGone) for outcome in outcomes)
    assert len(ear.ends) == 1
    with pytest.raises(PeerGone):
        channel.tell("anything")


async def test_the_end_of_the_peer_is_told_once_and_is_not_called_broken(pair: Pair) -> None:
    await pair.near.close()
    await pair.far.ended()
    await pair.far.close()
    assert pair.far_ear.ends == [("end of file", False)]


async def test_closing_sends_what_waits_and_may_be_done_twice(pair: Pair) -> None:
    for _ in range(100):
        pair.near.tell("page", {"text": "x" * 10_000})
    await pair.near.close(flush=5)
    await pair.near.close()
    assert [(await pair.far_ear.heard.get())[0] for _ in range(100)] == ["page"] * 100


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        pytest.param(b"\xff" * 64, "announced", id="oversize"),
        pytest.param(frames.encode({"hello": 1}), "neither notice, request nor answer", id="unknown shape"),
        pytest.param(frames.encode({"tell": 1, "body": {}}), "neither", id="a name that is no text"),
        pytest.param(frames.encode({"ask": "double", "body": {}}), "neither", id="a request without id"),
        pytest.param(frames.encode({"tell": "forbidden", "body": {}}), "nobody may say forbidden", id="not allowed"),
    ],
)
async def test_garbage_ends_the_link_as_broken(
    raw: tuple[Channel, Ear, socket.socket], sent: bytes, complaint: str
) -> None:
    channel, ear, peer = raw
    await asyncio.get_running_loop().sock_sendall(peer, sent)
    async with asyncio.timeout(5):
        await channel.ended()
    ((reason, broken),) = ear.ends
    assert complaint in reason
    assert broken


async def test_a_bug_in_a_listener_ends_the_link_and_says_so(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.near.tell("bug")
    async with asyncio.timeout(5):
        await pair.far.ended()
    assert pair.far_ear.ends == [("hearing a message failed: KeyError('a bug of this end')", False)]
    assert "link.failed" in caplog.text


async def test_a_peer_that_does_not_read_fills_its_outbox_and_then_is_busy_at_once(
    raw: tuple[Channel, Ear, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, _, _ = raw
    monkeypatch.setattr(outbox, "LIMIT", 1_000_000)
    page: dict[str, Any] = {"text": "x" * 1000}

    def flood() -> None:
        for _ in range(2000):
            channel.tell("page", page)

    with pytest.raises(PeerBusy, match=r"left 9\d+ bytes unread"):
        flood()


async def test_closing_is_bounded_while_the_peer_does_not_read(raw: tuple[Channel, Ear, socket.socket]) -> None:
    channel, ear, _ = raw
    for _ in range(30):
        channel.tell("page", {"text": "x" * 100_000})
    async with asyncio.timeout(5):
        await channel.close(flush=0.05)
    assert ear.ends == [("closed on this side", False)]


async def test_a_peer_that_asks_without_end_and_reads_no_answers_is_broken(
    raw: tuple[Channel, Ear, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, ear, peer = raw
    monkeypatch.setattr(outbox, "LIMIT", 10_000)
    peer.setblocking(True)
    request = frames.encode({"ask": "double", "id": 1, "body": {"value": "x" * 1000}})

    def flood() -> None:
        while True:
            peer.sendall(request)

    with pytest.raises(ConnectionError):
        await asyncio.to_thread(flood)
    await channel.ended()
    assert ear.ends == [("requests came without end and their answers were not read", True)]


# --- answers that take longer


async def test_answers_that_take_longer_come_when_they_are_there_in_any_order(pair: Pair) -> None:
    first, second = (pair.near.request("later", {"gate": gate}) for gate in (1, 2))
    pair.far_ear.gates[2].set()
    assert (await second)["gate"] == 2
    assert not first.done()
    pair.far_ear.gates[1].set()
    assert (await first)["gate"] == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error": "ours"}, "went wrong"),
        ({"error": "bug"}, r"failed: KeyError\('went wrong'\)"),
        ({"size": 2_000_000}, "there is an answer, but a message of"),
    ],
)
async def test_an_answer_that_fails_later_is_a_sentence_and_leaves_the_link_alone(
    pair: Pair, body: dict[str, Any], sentence: str
) -> None:
    pair.far_ear.gates[1].set()
    with pytest.raises(RequestFailed, match=sentence):
        await pair.near.ask("later", {"gate": 1, **body}, timeout=5)
    assert (await pair.near.ask("double", {"value": 1}, timeout=5)) == {"value": 2}


async def test_beyond_the_bound_of_requests_being_worked_on_a_peer_hears_busy(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "ANSWERING_LIMIT", 2)
    waiting = [pair.near.request("later", {"gate": 1}) for _ in range(2)]
    with pytest.raises(RequestFailed, match="busy: 2 requests are being worked on already"):
        await pair.near.ask("later", {"gate": 1}, timeout=5)
    pair.far_ear.gates[1].set()
    assert len(await asyncio.gather(*waiting)) == 2


async def test_a_request_that_is_not_wanted_any_more_is_forgotten(pair: Pair) -> None:
    asking = pair.near.request("later", {"gate": 1})
    asking.cancel()
    await asyncio.sleep(0)
    assert pair.near.unanswered == 0
    pair.far_ear.gates[1].set()
    assert (await pair.near.ask("double", {"value": 1}, timeout=5)) == {"value": 2}


async def test_closing_ends_what_is_still_being_worked_on(pair: Pair) -> None:
    asking = pair.near.request("later", {"gate": 1})
    await pair.near.ask("double", {"value": 1}, timeout=5)
    await pair.far.close()
    with pytest.raises(PeerGone):
        await asking


async def test_a_peer_that_leaves_a_frame_unread_is_seen(raw: tuple[Channel, Ear, socket.socket]) -> None:
    channel, _, peer = raw
    assert channel.unread_since is None
    channel.tell("page", {"text": "x" * 1_000_000})
    loop = asyncio.get_running_loop()
    await loop.sock_recv(peer, 1)
    assert channel.unread_since is not None
    while channel.unread_since is not None:
        await loop.sock_recv(peer, 100_000)
