"""Stopping, at every moment, children of every kind. Deadlines that a test does not mean are an hour away."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from toys.stage import NEVER, Stage, alive

from notifier.supervision import restart
from notifier.supervision.departure import Limits


async def test_a_stop_lets_every_child_finish_and_ends_with_0() -> None:
    async with Stage("good", "good", "good") as stage:
        await stage.ready()
        assert await stage.stopped() == 0
        assert [stage.said("draining", f"toy:{n}") for n in range(3)] == [["draining"]] * 3
        assert {told["reason"] for told in stage.told("child.ended")} == {"exit code 0"}
        assert stage.told("child.restarted") == []


@pytest.mark.parametrize("toy", ["stays", "deaf"])
async def test_a_child_that_does_not_finish_is_ended_by_sigterm_and_then_by_force(toy: str) -> None:
    async with Stage(toy, limits=Limits(drain=0.3, term=0.3)) as stage:
        await stage.ready()
        assert await stage.stopped() == 0
        endings = {told["slot"]: told["reason"] for told in stage.told("child.ended")}
        assert endings == {"toy:0": "did not finish within 0.3 s (SIGKILL)"}


async def test_a_child_that_drains_too_long_hears_from_sigterm_that_it_must_hurry() -> None:
    async with Stage("hurries", limits=Limits(drain=0.2, term=NEVER)) as stage:
        await stage.ready()
        assert await stage.stopped() == 0
        assert stage.said("leaving quickly") == ["leaving quickly"]
        assert stage.told("child.ended")[0]["reason"] == "did not finish within 0.2 s (exit code 0)"


async def test_one_slow_child_keeps_the_others_from_nothing() -> None:
    async with Stage("hurries", "good") as stage:
        await stage.ready()
        stage.master.stop()
        await stage.event("child.ended", slot="toy:1")
        assert stage.told("service.stopped") == []
        assert await stage.stopped() == 0


# --- a second stop


async def test_a_second_stop_makes_a_draining_child_leave_at_once() -> None:
    async with Stage("hurries") as stage:
        await stage.ready()
        stage.master.stop()
        await stage.line("draining slowly")
        assert await stage.stopped() == 0
        assert stage.said("leaving quickly") == ["leaving quickly"]


async def test_a_second_stop_kills_soon_what_does_not_leave() -> None:
    async with Stage("stays", limits=Limits(drain=NEVER, term=NEVER, quick=0.2)) as stage:
        await stage.ready()
        stage.master.stop()
        await stage.line("draining but staying")
        assert await stage.stopped() == 0
        assert stage.told("child.ended")[0]["reason"] == "did not leave within 0.2 s (SIGKILL)"


async def test_two_stops_at_once_are_a_quick_one() -> None:
    async with Stage("hurries") as stage:
        await stage.ready()
        stage.master.stop()
        assert await stage.stopped() == 0
        assert [told["how"] for told in stage.told("service.stopping")] == ["draining", "quickly"]


async def test_a_third_stop_changes_nothing() -> None:
    async with Stage("good") as stage:
        await stage.ready()
        stage.master.stop()
        stage.master.stop()
        assert await stage.stopped() == 0
        assert len(stage.told("service.stopping")) == 2


# --- a stop while not all is ready


async def test_a_stop_before_the_first_round_starts_nothing() -> None:
    stage = Stage("good")
    stage.master.stop()
    async with stage:
        assert await stage.code() == 0
        assert stage.pids == []


async def test_a_stop_ends_a_child_that_has_not_said_hello() -> None:
    async with Stage("never-joins") as stage:
        await stage.line("awake")
        assert await stage.stopped() == 0
        assert stage.told("child.ended")[0]["reason"] == "SIGTERM"


async def test_a_stop_ends_by_force_a_child_that_has_not_said_hello_and_ignores_sigterm() -> None:
    async with Stage("never-joins-nor-goes", limits=Limits(term=0.2)) as stage:
        await stage.line("awake")
        assert await stage.stopped() == 0
        assert stage.told("child.ended")[0]["reason"] == "did not leave within 0.2 s (SIGKILL)"


async def test_a_second_stop_ends_by_force_at_once_what_has_not_said_hello() -> None:
    async with Stage("never-joins-nor-goes") as stage:
        await stage.line("awake")
        stage.master.stop()
        assert await stage.stopped() == 0
        assert stage.told("child.ended")[0]["reason"].endswith("everything had to end at once (SIGKILL)")


async def test_a_stop_reaches_a_child_that_is_still_starting_by_message() -> None:
    async with Stage("never-ready") as stage:
        await stage.line("joined")
        assert await stage.stopped() == 0
        assert stage.said("draining") == ["draining"]
        assert stage.announced == []


async def test_a_stop_does_not_wait_for_a_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", NEVER)
    monkeypatch.setattr(restart, "LONGEST_DELAY", NEVER)
    async with Stage("good", "exits 3") as stage:
        await stage.event("child.backoff")
        assert await stage.stopped() == 0
        assert len(stage.told("child.ended")) == 3  # toy:1 twice


async def test_a_child_that_cannot_start_while_the_service_stops_changes_nothing() -> None:
    async with Stage("hurries", "never-joins") as stage:
        await stage.line("joined")
        await stage.line("awake", "toy:1")
        stage.master.stop()
        await stage.event("child.ended", slot="toy:1")
        assert await stage.stopped() == 0
        assert stage.announced == []


async def test_a_cancelled_master_leaves_no_child_behind() -> None:
    async with Stage("good", "stays", "deaf", "never-joins-nor-goes") as stage:
        await stage.line("awake", "toy:3")
        await asyncio.gather(*(stage.event("child.ready", slot=f"toy:{n}") for n in range(3)))
        stage.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stage.running
        assert stage.running.cancelled()
        assert [alive(pid) for pid in stage.pids] == [False] * 4
