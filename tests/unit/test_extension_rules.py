"""Extensions: when a schedule runs and where; what can be registered; code that will not end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from notifier.bounded import bounded, holding_on
from notifier.errors import ConfigurationError, InvalidInput
from notifier.extensions.extension import Extension
from notifier.extensions.schedule import Peer, Run, is_mine, newer, next_due, peers

A, B, C = (Peer(f"tier:{n}s", 1, True) for n in (1, 3, 5))


@pytest.mark.parametrize(
    ("present", "last", "mine"),
    [
        ([A, B, C], None, "tier:1s"),
        ([Peer("tier:1s", 1, False), B, C], None, "tier:3s"),
        ([A, B, C], Run("tier:5s", 1, 90.0, 91.0), "tier:1s"),
        ([A, B, C], Run("tier:3s", 1, 90.0), None),
        ([A, Peer("tier:3s", 2, True)], Run("tier:3s", 1, 90.0), "tier:1s"),
        ([A, Peer("tier:3s", 1, False)], Run("tier:3s", 1, 90.0), "tier:1s"),
        ([A, B, C], Run("tier:3s", 1, 30.0), "tier:1s"),
        ([Peer("tier:1s", 1, False)], None, None),
        ([], None, None),
    ],
    ids=[
        "the first", "the first that is able", "another did it last", "another is at it", "who was at it is new",
        "who was at it is ending", "who is at it has had its time", "nobody is able", "nobody is there",
    ],
)  # fmt: skip
def test_who_does_what_one_does_for_all(present: list[Peer], last: Run | None, mine: str | None) -> None:
    found = [slot for slot in ("tier:1s", "tier:3s", "tier:5s") if is_mine(slot, present, last, 100.0, 60.0)]
    assert found == ([] if mine is None else [mine])


@pytest.mark.parametrize(
    ("jitter", "draw", "due"), [(0, 0.9, 110.0), (0.1, 0.0, 109.0), (0.1, 0.5, 110.0), (0.5, 1.0, 115.0)]
)
def test_the_next_time_is_an_interval_later_moved_by_its_jitter(jitter: float, draw: float, due: float) -> None:
    assert next_due(100.0, 10.0, jitter, draw) == pytest.approx(due)


def test_the_end_of_a_run_counts_more_than_its_beginning_and_a_later_run_more_than_both() -> None:
    begun, ended, later = Run("a", 1, 10.0), Run("a", 1, 10.0, 12.0), Run("b", 1, 11.0)
    assert newer(begun, ended) is newer(ended, begun) is ended
    assert newer(ended, later) is newer(later, ended) is later
    assert newer(None, begun) is newer(begun, None) is begun


def test_runs_travel_as_json_and_what_is_none_is_no_run() -> None:
    assert Run.read(Run("a", 1, 10.0, 12.0).shown()) == Run("a", 1, 10.0, 12.0)
    assert Run.read({"slot": "a"}) is None
    assert Run.read(None) is None


def test_peers_are_the_slots_of_the_group_that_are_ready_or_paused() -> None:
    status = {
        "slots": [
            {"slot": f"tier:{state}", "groups": ["tier"], "epoch": 4, "state": state}
            for state in ("ready", "paused", "backoff", "draining", "starting")
        ]
        + [{"slot": "agent", "groups": ["agent"], "epoch": 1, "state": "ready"}]
    }
    found = peers(status, "tier")
    assert [peer.slot for peer in found if peer.able] == ["tier:ready", "tier:paused"]
    assert len(found) == 5


class Nobody:
    """A line on which nothing is said."""

    state: dict[str, Any] = {}  # noqa: RUF012  # as the real one has it: an attribute

    async def ask(self, *_: Any, **__: Any) -> Any:
        raise AssertionError

    tell = control = ask


def extension() -> Extension:
    return Extension("shop", "tier:1s", 1, Nobody())


async def nothing() -> None: ...


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda e: e.on_start(len), "is not a coroutine function"),
        (lambda e: e.action("a")(lambda data, sender: None), "is not a coroutine function"),
        (lambda e: [e.action("a")(nothing), e.action("a")(nothing)], "'a' is registered twice"),
        (lambda e: e.every(10, by="some"), "'one' or 'all'"),
        (lambda e: e.every(0, by="all"), "interval from 0.1 s"),
        (lambda e: e.every(1, by="all", jitter=0.9), "jitter from 0 to 0.5"),
        (lambda e: [e.every(1, by="all")(nothing), e.every(2, by="one")(nothing)], "two schedules have the name"),
    ],
)
def test_what_cannot_be_registered_is_refused_with_a_sentence_that_names_the_module(
    wrong: Callable[[Extension], Any], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        wrong(extension())
    assert "extension shop" in str(refused.value)


async def test_an_extension_sets_only_its_own_keys() -> None:
    with pytest.raises(InvalidInput, match="begin with 'x/'"):
        await extension().push("pause/all", {"paused": True})


async def test_what_holds_on_against_its_cancellation_is_left_behind_and_known() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(TimeoutError):
        await bounded(stubborn(), 0.01)
    await asyncio.sleep(0)
    assert holding_on()
    release.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not holding_on()


async def test_what_is_bounded_returns_its_result_and_raises_its_error() -> None:
    async def result() -> int:
        return 7

    async def fails() -> None:
        raise KeyError("x")

    assert await bounded(result(), 1) == 7
    with pytest.raises(KeyError):
        await bounded(fails(), 1)
