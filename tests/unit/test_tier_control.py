"""What operators' keys do in a tier process, when leaving its queue takes longer than a follower may."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.broker.consumer import Consumer
from notifier.broker.publisher import Publisher
from notifier.delivery.careful import PREFETCH
from notifier.delivery.delivery import DeliveryRoom
from notifier.processes.tier_control import TierControl
from notifier.settings import Settings
from notifier.supervision import mirror
from notifier.supervision.child import Parent


class Room:
    """A room in strict order, with something under way until `idle`."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.is_open = True
        self.idle = asyncio.Event()
        self.turns = SimpleNamespace(prefetch=200)

    def shut(self) -> None:
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    async def give_back(self) -> None: ...

    async def drained(self) -> None:
        await self.idle.wait()


class Queue:
    """A consumer: how many it may have, and whether it is at its queue."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.there = True
        self.connected = asyncio.Event()
        self.connected.set()

    def widen(self, prefetch: int) -> None:
        self.prefetch = prefetch

    def leave(self) -> None:
        self.there = False

    async def take_again(self) -> None:
        self.there = True

    async def consuming(self) -> object:
        await self.connected.wait()
        return self


class Stage:
    def __init__(self, *, strict: bool = True, careful: bool = False) -> None:
        self.parent = Parent(own_process=False)
        self.room, self.consumer = Room(strict=strict), Queue(PREFETCH if careful else 200)
        self.careful = careful
        self.control = TierControl(
            self.parent, "1s", ("all", "tier:1s"), Settings(), cast(DeliveryRoom, self.room),
            cast(Consumer, self.consumer), cast(Publisher, None), lambda: cast(Any, object() if self.careful else None),
        )  # fmt: skip
        self._version = 0

    async def push(self, key: str, value: Any) -> dict[str, str]:
        """As the master does it; a cleared key is None. Returns what could not be applied."""
        self._version += 1
        entry = {"key": key, "value": value, "version": self._version}
        return await self.parent.state.apply(
            {"entries": [entry], "version": self._version, "whole": False, "first": False, "last": True}
        )


async def test_a_resume_that_is_not_in_time_does_not_end_the_leaving_it_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Strict order: what runs is over first, which takes longer than a resume may while the broker takes nothing."""
    monkeypatch.setattr(mirror, "FOLLOWER_TIMEOUT", 0.05)
    stage = Stage()
    await stage.control.follow()
    assert await stage.push("pause/all", True) == {}
    assert await stage.push("pause/all", None) == {"pause/all": "took longer than 0.05 s"}
    assert await stage.push("pause/all", None) == {"pause/all": "took longer than 0.05 s"}, "told again, still so"
    assert not stage.room.is_open
    monkeypatch.undo()
    stage.room.idle.set()
    assert await stage.push("pause/all", None) == {}
    assert stage.room.is_open
    assert stage.consumer.there


@pytest.mark.parametrize("value", [20, 2000])
async def test_a_prefetch_that_was_set_before_a_careful_start_is_what_shares_are_taken_of_after_it(value: int) -> None:
    stage = Stage(strict=False, careful=True)
    await stage.control.follow()
    assert await stage.push("set/tier:1s/prefetch", value) == {}
    assert stage.consumer.prefetch == PREFETCH
    stage.careful = False
    await stage.control.widen()
    assert (stage.consumer.prefetch, stage.room.turns.prefetch) == (value, value)


async def test_a_prefetch_that_is_set_while_the_broker_is_away_leaves_no_tier_shut_in_strict_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes longer than a follower may, and the value is in force from then on: asked again, it is not done yet."""
    monkeypatch.setattr(mirror, "FOLLOWER_TIMEOUT", 0.05)
    stage = Stage()
    stage.room.idle.set()
    await stage.control.follow()
    stage.consumer.connected.clear()
    for _ in range(2):
        assert await stage.push("set/tier:1s/prefetch", 50) == {"set/tier:1s/prefetch": "took longer than 0.05 s"}
    assert not stage.room.is_open
    monkeypatch.undo()
    stage.consumer.connected.set()
    assert await stage.push("set/tier:1s/prefetch", 50) == {}
    assert stage.room.is_open
    assert (stage.consumer.prefetch, stage.room.turns.prefetch) == (50, 50)


async def test_a_prefetch_that_is_taken_back_before_it_was_in_force_leaves_no_tier_shut_in_strict_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror, "FOLLOWER_TIMEOUT", 0.05)
    stage = Stage()
    await stage.control.follow()
    assert await stage.push("set/tier:1s/prefetch", 50) == {"set/tier:1s/prefetch": "took longer than 0.05 s"}
    monkeypatch.undo()
    taking_back = asyncio.create_task(stage.push("set/tier:1s/prefetch", None))
    stage.room.idle.set()
    assert await taking_back == {}
    assert stage.room.is_open
    assert (stage.consumer.prefetch, stage.room.turns.prefetch) == (200, 200)


async def test_a_drain_is_not_cut_by_a_change_of_the_prefetch() -> None:
    stage = Stage(strict=False)
    await stage.control.follow()
    stage.control.end()
    assert await stage.push("set/tier:1s/prefetch", 50) == {}
    assert stage.consumer.prefetch == 200
