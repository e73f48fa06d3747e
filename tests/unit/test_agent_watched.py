"""What the agent does all the time begins again, whatever breaks it off, and never in a hot loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from notifier import logs
from notifier.agent import watched as module
from notifier.agent.watched import watched


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is logged."""
    events: list[dict[str, Any]] = []

    def event(name: str, level: int = 0, **fields: Any) -> None:
        events.append({"name": name, **fields})

    monkeypatch.setattr(logs, "event", event)
    return events


async def test_what_raised_is_told_with_its_traceback_and_begins_again(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    begun, third = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            third.set()
            await asyncio.Event().wait()
        raise RuntimeError(f"fault {begun}")

    task = watched("the work", work)
    async with asyncio.timeout(10):
        await third.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [str(event["exc_info"]) for event in told] == ["fault 1", "fault 2"]
    assert all(event["exc_info"].__traceback__ is not None for event in told)
    assert {event["what"] for event in told} == {"the work: it begins again"}


async def test_the_pauses_grow_to_a_bound(told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 10:
            raise KeyboardInterrupt

    async def work() -> None:
        raise RuntimeError

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        await module._for_ever("the work", work)
    assert [event["again_s"] for event in told] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert all(event["again_s"] / 2 <= pause <= event["again_s"] for event, pause in zip(told, slept, strict=True))


async def test_what_it_waited_for_may_be_cancelled_without_ending_it(
    told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            waited_for = asyncio.create_task(asyncio.Event().wait())
            waited_for.cancel()
            await waited_for

    async with asyncio.timeout(10):
        await watched("the work", work)
    assert (begun, len(told)) == (2, 1)


async def test_what_returns_has_ended(told: list[dict[str, Any]]) -> None:
    async def work() -> None:
        return None

    await watched("the work", work)
    assert told == []
