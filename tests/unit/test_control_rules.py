"""The control line without processes: the desired state, its way to a child, addresses, signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.errors import BadAddress, BadFrame, BadState, InvalidInput, NoAnswer, PeerGone
from notifier.supervision import addresses, desired, moments, push, restart
from notifier.supervision.channel import Body
from notifier.supervision.departure import Limits
from notifier.supervision.desired import Desired, Entry
from notifier.supervision.feed import Feed
from notifier.supervision.incarnation import Program
from notifier.supervision.mirror import Mirror
from notifier.supervision.slot import Slot
from notifier.supervision.vitals import Life, Vitals

# --- the budget of restarts


@pytest.mark.parametrize(
    ("times", "degraded"),
    [([], False), ([0] * 5, False), ([0] * 6, True), ([-61, 0, 0, 0, 0, 0], False), ([-59, 0, 0, 0, 0, 0], True)],
)
def test_more_than_five_restarts_within_a_minute_are_degraded(times: Sequence[float], degraded: bool) -> None:
    assert restart.is_degraded(times, 0) is degraded


# --- the desired state

CHANGES = st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.integers(0, 9)), max_size=40)


@given(CHANGES, st.integers(0, 40))
def test_whoever_has_a_version_gets_to_the_newest_one_with_what_came_after_it(
    changes: list[tuple[str, int | None]], had: int
) -> None:
    state = Desired()
    old: dict[str, Any] = {}
    for number, (key, value) in enumerate(changes, 1):
        state.push(key, value, 0, who="tester")
        if number == had:
            old = {entry.key: entry.value for entry in state.present()}
    entries, version = state.batch(had if had <= len(changes) else 0)
    for entry in entries:
        if entry.value is None:
            old.pop(entry.key, None)
        else:
            old[entry.key] = entry.value
    assert version == len(changes)
    assert old == {entry.key: entry.value for entry in state.present()}


@given(CHANGES)
def test_forgetting_gravestones_changes_nothing_that_is_set(changes: list[tuple[str, int | None]]) -> None:
    state = Desired()
    for key, value in changes:
        state.push(key, value, 0, who="tester")
    before = state.present()
    state.forget(state.version)
    assert state.present() == before
    assert all(entry.value is not None for entry in state.batch(0)[0])


def test_a_state_larger_than_a_frame_goes_in_batches_that_each_fit() -> None:
    state = Desired()
    for number in range(10):
        state.push(f"k{number}", "ü" * 40_000, 0, who="tester")
    after, sizes = 0, []
    while after < state.version:
        entries, after = state.batch(after)
        sizes.append(len(entries))
    assert sum(sizes) == 10
    assert len(sizes) > 1


def test_beyond_the_bound_no_key_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "KEYS_LIMIT", 2)
    state = Desired()
    state.push("a", 1, 0, who="t")
    state.push("b", 1, 0, who="t")
    with pytest.raises(InvalidInput, match="2 keys are set already"):
        state.push("c", 1, 0, who="t")
    state.push("a", None, 0, who="t")
    state.push("c", 1, 0, who="t")


def test_an_entry_is_read_back_as_it_was_shown() -> None:
    entry = Entry("k", {"a": [1]}, 7, "who", None, 1000.5, 2000.25)
    assert Entry.read(entry.shown()) == entry
    assert entry.shown()["until"] == "1970-01-01T00:33:20.250Z"


@pytest.mark.parametrize("text", ["2026-11-21T10:00:00Z", "2026-11-21T11:00:00+01:00", "2026-11-21T10:00:00"])
def test_a_moment_is_read_in_utc(text: str) -> None:
    assert moments.shown(moments.read(text)) == "2026-11-21T10:00:00.000Z"


# --- the way to a child


class Child:
    """A mirror that is fed without a pipe. silent: the batches that it leaves unanswered."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.batches: list[Body] = []
        self.unanswered = 0
        self.gone = asyncio.Event()

    async def ask(self, name: str, body: Body | None = None, *, timeout: float) -> Body:
        assert body is not None
        self.batches.append(body)
        if self.gone.is_set():
            raise PeerGone("gone")
        if self.unanswered:
            self.unanswered -= 1
            raise NoAnswer("silent")
        return {"errors": await self.mirror.apply(body)}


class Fed:
    def __init__(self) -> None:
        self.state = Desired()
        self.child = Child()
        self.feed = Feed(self.state, self.child.ask)

    async def push(self, key: str, value: Any) -> int:
        entry = self.state.push(key, value, 0, who="tester")
        self.feed.poke()
        async with asyncio.timeout(10):
            return await self.feed.reached(key, entry.version)

    async def __aenter__(self) -> Fed:
        self.running = asyncio.create_task(self.feed.run())
        async with asyncio.timeout(10):
            await self.child.mirror.complete.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


async def test_many_changes_while_a_child_is_busy_reach_it_as_the_newest_one() -> None:
    fed = Fed()
    for number in range(1000):
        fed.state.push("k", number, 0, who="tester")
    async with fed:
        assert dict(fed.child.mirror) == {"k": 999}
        assert sum(len(batch["entries"]) for batch in fed.child.batches) == 1


async def test_a_change_that_is_overtaken_counts_as_applied_with_the_newer_one() -> None:
    async with Fed() as fed:
        first, second = await asyncio.gather(fed.push("k", 1), fed.push("k", 2))
        assert (first, second) == (2, 2)
        assert dict(fed.child.mirror) == {"k": 2}


async def test_a_child_that_left_a_batch_unanswered_gets_everything_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Fed() as fed:
        await fed.push("a", 1)
        fed.child.unanswered = 1
        assert await fed.push("b", 1) == 2
        assert fed.child.batches[-1]["whole"] is True
        assert dict(fed.child.mirror) == {"a": 1, "b": 1}


async def test_who_waits_for_a_child_that_dies_hears_it_at_once() -> None:
    async with Fed() as fed:
        fed.child.gone.set()
        pushing = asyncio.create_task(fed.push("a", 1))
        await asyncio.sleep(0)
        fed.feed.close("it is gone")
        with pytest.raises(PeerGone, match="it is gone"):
            await pushing
        with pytest.raises(PeerGone):
            await fed.push("b", 1)


async def test_a_follower_that_fails_is_the_answer_for_its_key_alone() -> None:
    async with Fed() as fed:

        async def follower(key: str, value: Any) -> None:
            if value == "bad":
                raise ValueError("no")

        await fed.child.mirror.follow(follower, "k")
        with pytest.raises(BadState, match="no"):
            await fed.push("k1", "bad")
        await fed.push("k2", "good")
        await fed.push("other", "bad")  # nobody follows it
        assert fed.feed.errors == {"k1": "failed: ValueError('no')"}
        await fed.push("k1", "good")
        assert fed.feed.errors == {}


async def test_a_follower_that_awaited_what_was_cancelled_has_failed_and_later_changes_arrive() -> None:
    """To cancel a task and to await it is a common idiom, and its CancelledError is nobody's wish to end."""
    async with Fed() as fed:
        heard: list[str] = []

        async def follower(key: str, value: Any) -> None:
            if value == "bad":
                gone = asyncio.create_task(asyncio.sleep(60))
                gone.cancel()
                await gone
            heard.append(value)

        await fed.child.mirror.follow(follower, "k")
        with pytest.raises(BadState, match="CancelledError"):
            await fed.push("k1", "bad")
        await fed.push("k1", "good")
        assert heard == ["good"]


async def test_a_follower_hears_what_there_is_and_then_each_change_once() -> None:
    async with Fed() as fed:
        await fed.push("k1", 1)
        heard: list[tuple[str, Any]] = []

        async def follower(key: str, value: Any) -> None:
            heard.append((key, value))

        await fed.child.mirror.follow(follower, "k")
        await fed.push("k2", 2)
        await fed.push("k1", None)
        assert fed.feed.heard(0) is True  # the child lost its place: all comes again
        await fed.push("k3", 3)
        assert heard == [("k1", 1), ("k2", 2), ("k1", None), ("k3", 3)]


async def test_a_key_cleared_and_forgotten_while_a_child_had_lost_its_place_goes_there_too() -> None:
    async with Fed() as fed:
        await fed.push("a", 1)
        fed.state.push("a", None, 0, who="tester")
        fed.state.forget(fed.state.version)
        assert fed.feed.heard(0) is True
        await fed.push("b", 1)
        assert dict(fed.child.mirror) == {"b": 1}


@pytest.mark.parametrize("body", [{}, {"entries": [1], "version": 1, "whole": True, "first": True, "last": True}])
async def test_a_state_that_makes_no_sense_is_refused_by_the_child(body: Body) -> None:
    with pytest.raises(BadFrame):
        await Mirror().apply(body)


# --- addresses


def slots() -> list[Slot]:
    def slot(name: str, *groups: str) -> Slot:
        program = Program(name, ("true",), {}, groups)
        return Slot(program, Limits(), post=None, wake=lambda: None, tell=lambda *_, **__: None)  # type: ignore[arg-type]

    return [slot("t:1", "t", "t:1"), slot("t:1.2", "t", "t:1"), slot("t:5", "t", "t:5"), slot("agent")]


@pytest.mark.parametrize(
    ("to", "names"),
    [
        ("all", ["t:1", "t:1.2", "t:5", "agent"]),
        ("others", ["t:1", "t:1.2", "agent"]),
        ("t", ["t:1", "t:1.2", "t:5"]),
        ("t:1", ["t:1", "t:1.2"]),
        ("t:1.2", ["t:1.2"]),
        ("agent", ["agent"]),
        ("any", ["agent"]),
        ("any:t", ["t:5"]),
        ("any:t:1", ["t:1.2"]),
    ],
)
def test_an_address_names_slots(to: str, names: list[str]) -> None:
    found = addresses.resolve(to, slots(), "t:5", lambda among: among[-1])
    assert [slot.name for slot in found] == names


@pytest.mark.parametrize("to", ["", "nobody", "any:nobody", "t:9"])
def test_an_address_that_nobody_has_is_refused(to: str) -> None:
    with pytest.raises(BadAddress, match="there are all, others, any"):
        addresses.resolve(to, slots(), "t:5", lambda among: among[0])


# --- signs of life


@pytest.mark.parametrize(
    ("now", "unread_since", "life"),
    [
        (109.9, None, Life.FINE),
        (110, None, Life.SILENT),
        (129.9, None, Life.SILENT),
        (130, None, Life.HUNG),
        (103, 99, Life.FINE),
        (104, 99, Life.HUNG),
    ],
)
def test_silence_is_judged_by_its_length(now: float, unread_since: float | None, life: Life) -> None:
    vitals = Vitals()
    assert vitals.diagnose(1e9, Limits(), None).life is Life.FINE  # it has not said HELLO
    vitals.joined(100)
    assert vitals.diagnose(now, Limits(), unread_since).life is life


def test_a_heartbeat_ends_the_silence_and_garbage_is_none() -> None:
    vitals = Vitals()
    vitals.joined(100)
    vitals.beat({"version": 3, "paused": True, "statistics": {"a": 1}}, 129)
    assert vitals.diagnose(138, Limits(), None).life is Life.FINE
    assert (vitals.version, vitals.paused, vitals.statistics) == (3, True, {"a": 1})
    with pytest.raises(BadFrame):
        vitals.beat({"version": "x"}, 130)


async def test_a_process_that_has_not_said_hello_is_not_killed_for_a_push_it_cannot_have_heard() -> None:
    """It gets the whole state before it works, so it has nothing to answer yet."""
    condemned: list[str] = []
    starting = SimpleNamespace(joined=False, feed=SimpleNamespace(poke=lambda: None))
    slot = SimpleNamespace(name="toy:0", epoch=3, child=starting, condemn=lambda epoch, why: condemned.append(why))
    entry = Entry("block/m", True, 7, "ada", None, 0.0, None)
    told = await push.reach(cast("list[Slot]", [slot]), entry, timeout=0.01, critical=True)
    assert told == [{"slot": "toy:0", "epoch": 3, "result": "gone"}]
    assert condemned == []
