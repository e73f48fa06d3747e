"""Slots under control: hanging children, budgets, order of stopping, rolling restarts."""

from __future__ import annotations

import asyncio
import errno
import os
import signal

import pytest
from toys.stage import NEVER, PATIENCE, Stage, alive

from notifier.supervision import incarnation, master, restart, rolling, stacks
from notifier.supervision.departure import Limits
from notifier.supervision.slot import State

WATCHFUL = Limits(start=NEVER, drain=NEVER, term=NEVER, quick=NEVER, warn=1.6, silence=3, unread=NEVER)


@pytest.fixture
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(restart, "LONGEST_DELAY", 0.02)


# --- hanging


@pytest.mark.parametrize(("key", "where"), [("stuck", "in on_state"), ("gil", "in on_state")])
async def test_a_child_that_hangs_is_warned_of_shows_its_stacks_and_is_replaced(key: str, where: str) -> None:
    async with Stage("operable", "operable", limits=WATCHFUL) as stage:
        await stage.ready()
        await stage.master.push(key, "toy:0", who="tester", timeout=0.05)
        await stage.event("child.silent", slot="toy:0")
        restarted = await stage.event("child.restarted")
        assert restarted["reason"] == "gave no sign of life for 3 s (SIGKILL)"
        told = await stage.event("child.stacks", slot="toy:0")
        assert any(where in line for line in told["stacks"])
        assert where in (stage.master.slots[0].last_stacks or "")
        await stage.event("child.ready", epoch=2)
        assert stage.master.slots[1].epoch == 1


async def test_a_child_stopped_by_a_signal_is_killed_without_being_woken() -> None:
    async with Stage("operable", limits=WATCHFUL) as stage:
        await stage.ready()
        os.kill(stage.pids[0], signal.SIGSTOP)
        restarted = await stage.event("child.restarted")
        assert restarted["reason"] == "gave no sign of life for 3 s, being stopped by a signal (SIGKILL)"
        assert stage.told("child.stacks") == []


async def test_a_child_that_does_not_read_its_pipe_counts_as_hung() -> None:
    limits = Limits(start=NEVER, drain=NEVER, term=NEVER, quick=NEVER, warn=NEVER, silence=NEVER, unread=0.5)
    async with Stage("operable", limits=limits) as stage:
        await stage.ready()
        os.kill(stage.pids[0], signal.SIGSTOP)
        for _ in range(20):
            await stage.master.send("toy:0", "note", "x" * 100_000, reply=False)
        restarted = await stage.event("child.restarted")
        assert restarted["reason"] == "did not read its pipe for 0.5 s, being stopped by a signal (SIGKILL)"


async def test_a_child_that_only_works_slowly_is_left_alone() -> None:
    async with Stage("operable", limits=WATCHFUL) as stage:
        await stage.ready()
        (reply,) = await stage.master.send("toy:0", "never", None, timeout=6)
        assert reply.result == "timeout"
        assert stage.told("child.hung") == []
        assert stage.master.slots[0].epoch == 1


async def test_children_are_not_blamed_for_a_time_in_which_the_master_itself_stood_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Stage("operable", limits=WATCHFUL) as stage:
        await stage.ready()
        stage.master._looked_at = asyncio.get_running_loop().time() - 100  # as after SIGSTOP and SIGCONT
        child = stage.master.slots[0].child
        assert child is not None
        child.vitals.forgive(-100)
        assert (await stage.event("master.away"))["seconds"] >= 100
        assert stage.told("child.hung") == []


async def test_a_master_whose_children_are_all_in_backoff_was_not_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "AWAY", 1.5)
    monkeypatch.setattr(restart, "FIRST_DELAY", 5.0)
    async with Stage("exits 3") as stage:
        await stage.event("child.backoff")
        await stage.event("child.restarted", slot="toy:0", epoch=3)
        assert stage.told("master.away") == []


# --- the budget of restarts


async def test_more_than_five_restarts_in_a_minute_are_called_degraded_and_it_is_tried_on(quick_restarts: None) -> None:
    async with Stage("exits 3", "good") as stage:
        degraded = await stage.event("child.degraded")
        assert (degraded["slot"], degraded["reason"]) == ("toy:0", "exit code 3")
        epoch = stage.master.slots[0].epoch
        assert epoch == 6
        await stage.event("child.restarted", slot="toy:0", epoch=epoch + 2)
        assert stage.master.status()["slots"][0]["degraded"] is True
        assert len(stage.told("child.degraded")) == 1
        assert stage.master.status()["slots"][1]["degraded"] is False


async def test_no_room_for_what_a_process_needs_before_its_start_is_no_end_of_the_service(
    quick_restarts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or removed directory for temporary files, or no descriptor left."""
    async with Stage("good", "good") as stage:
        await stage.event("service.ready")
        first, room = stage.master.slots[0], stacks.Sheet
        refused = 0

        def full() -> stacks.Sheet:
            nonlocal refused
            refused += 1
            if refused <= 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            return room()

        monkeypatch.setattr(incarnation.stacks, "Sheet", full)
        assert first.child is not None
        os.kill(first.child.pid, signal.SIGKILL)
        backoff = await stage.event("child.backoff", slot="toy:0")
        assert "No space left on device" in backoff["reason"]
        await stage.event("child.ready", slot="toy:0", epoch=4)
        assert refused == 3


async def test_a_degraded_slot_that_is_healthy_for_a_minute_has_recovered(
    quick_restarts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "HEALTHY", 0.3)
    async with Stage("dies-until 7") as stage:
        await stage.event("child.degraded")
        await stage.event("child.recovered")
        assert stage.master.status()["slots"][0]["degraded"] is False


# --- the order of stopping


async def test_who_is_needed_by_others_is_stopped_after_them() -> None:
    async with Stage("good", "hurries", "good", ranks=[2, 0, 1]) as stage:
        await stage.ready()
        stage.master.stop()
        await stage.line("draining slowly", "toy:1")
        assert stage.said("draining", "toy:0") == stage.said("draining", "toy:2") == []
        os.kill(stage.master.slots[1].pid or 0, signal.SIGTERM)  # its second word: hurry
        assert await stage.code() == 0
        assert [told["slot"] for told in stage.told("child.ended")] == ["toy:1", "toy:2", "toy:0"]


async def test_who_dies_while_it_waits_for_its_turn_to_stop_is_not_started_again() -> None:
    async with Stage("good", "hurries", ranks=[1, 0]) as stage:
        await stage.ready()
        stage.master.stop()
        await stage.line("draining slowly", "toy:1")
        os.kill(stage.pids[0], signal.SIGKILL)
        await stage.event("child.ended", slot="toy:0")
        os.kill(stage.master.slots[1].pid or 0, signal.SIGTERM)
        assert await stage.code() == 0
        assert stage.told("child.restarted") == []


async def test_a_quick_stop_knows_no_order() -> None:
    async with Stage("hurries", "hurries", ranks=[1, 0]) as stage:
        await stage.ready()
        stage.master.quick()
        assert await stage.code() == 0
        assert [stage.said("leaving quickly", f"toy:{n}") for n in range(2)] == [["leaving quickly"]] * 2


# --- rolling restart


async def test_a_rolling_restart_touches_a_slot_only_when_the_one_before_is_ready_again() -> None:
    async with Stage("good", "good", "good") as stage:
        await stage.ready()
        results = await stage.master.restart("all", who="tester")
        assert [(result["result"], result["epoch"]) for result in results] == [("restarted", 2)] * 3
        life = [(name, told["slot"]) for name, told in stage.events if name in ("child.ended", "child.ready")][3:]
        assert life == [(name, f"toy:{n}") for n in range(3) for name in ("child.ended", "child.ready")]
        assert {told["reason"] for told in stage.told("child.restarted")} == {
            "restart asked for by tester; exit code 0"
        }
        assert stage.told("child.backoff") == stage.told("child.degraded") == []
        assert stage.master.status()["slots"][0]["reason"] == "restart asked for by tester; exit code 0"


async def test_a_rolling_restart_ends_with_the_first_slot_that_does_not_become_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rolling, "SLACK", 0.5)
    async with Stage("good", "good-once", "good") as stage:
        await stage.ready()
        stage.master._limits = Limits(start=2, drain=2, term=2, quick=2)  # what it waits for a slot; theirs are longer
        results = await stage.master.restart("all", who="tester")
        assert [result["result"] for result in results] == ["restarted", "timeout", "untouched"]
        assert stage.master.slots[2].epoch == 1


async def test_a_stop_ends_a_rolling_restart() -> None:
    async with Stage("hurries", "good") as stage:
        await stage.ready()
        rolling = asyncio.create_task(stage.master.restart("all", who="tester"))
        await stage.line("draining slowly")
        stage.master.quick()
        assert await stage.code() == 0
        assert [result["result"] for result in await rolling] == ["timeout", "untouched"]


async def test_a_restart_asked_for_does_not_wait_for_a_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", NEVER)
    monkeypatch.setattr(restart, "LONGEST_DELAY", NEVER)
    async with Stage("dies-until 2") as stage:
        await stage.event("child.backoff")
        (result,) = await stage.master.restart("toy:0", who="tester")
        assert (result["result"], result["epoch"]) == ("restarted", 3)


async def test_after_a_restart_that_was_asked_for_earlier_deaths_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(restart, "LONGEST_DELAY", NEVER)
    async with Stage("dies-until 3") as stage:
        await stage.event("child.ready", epoch=4)
        await stage.master.restart("toy:0", who="tester")
        monkeypatch.setattr(restart, "FIRST_DELAY", NEVER)
        os.kill(stage.master.slots[0].pid or 0, signal.SIGKILL)
        await stage.event("child.restarted", slot="toy:0", epoch=6)
        assert stage.told("child.degraded") == []


async def test_a_drained_slot_stays_stopped_until_it_is_restarted_and_the_service_goes_on() -> None:
    async with Stage("good") as stage:
        await stage.ready()
        (first,) = stage.pids
        assert await stage.master.drain("toy:0") == [{"slot": "toy:0", "result": "drained"}]
        assert (stage.master.slots[0].state, alive(first)) == (State.STOPPED, False)
        assert not stage.running.done()
        (result,) = await stage.master.restart("toy:0", who="tester")
        assert (result["result"], result["epoch"]) == ("restarted", 2)


async def test_a_stop_while_a_slot_is_drained_ends_the_service() -> None:
    async with Stage("good", "good") as stage:
        await stage.ready()
        await stage.master.drain("toy:1")
        assert await asyncio.wait_for(stage.stopped(), PATIENCE) == 0
