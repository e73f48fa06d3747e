"""Starting, dying and being started again, with toy children."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace

import pytest
from toys.stage import PATIENT, Stage, alive

from notifier.supervision import restart
from notifier.supervision.departure import Limits
from notifier.supervision.incarnation import Program
from notifier.supervision.master import Master
from notifier.supervision.slot import State


@pytest.fixture
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.01)


async def test_ready_is_announced_once_when_every_child_is_ready() -> None:
    async with Stage("good", "good", "dies-until 1") as stage:
        await stage.ready()
        assert [slot.state for slot in stage.master.slots] == [State.READY] * 3
        assert await stage.stopped() == 0
        assert stage.announced == ["ready"]


async def test_a_child_gets_its_boot_state_and_its_own_session() -> None:
    async with Stage("good", "good") as stage:
        await stage.ready()
        await stage.line("joined careful=0 deaths={} boot={'number': 1}", "toy:1")
        assert [os.getsid(pid) for pid in stage.pids] == stage.pids


async def test_a_child_that_is_killed_is_started_again_at_once_into_its_slot() -> None:
    async with Stage("good", "dies-until 1") as stage:
        restarted = await stage.event("child.restarted")
        await stage.ready()
        (first,) = [told["pid"] for told in stage.told("child.started") if told["slot"] == "toy:1"]
        second = stage.master.slots[1].pid
        assert restarted == {
            "slot": "toy:1",
            "old_pid": first,
            "pid": second,
            "epoch": 2,
            "reason": "SIGKILL by someone else: out of memory?",
        }
        assert first != second
        assert stage.told("child.backoff") == []
        await stage.line("joined careful=1 deaths={}", "toy:1")


async def test_a_child_that_dies_again_and_again_waits_longer_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.02)
    async with Stage("exits 3") as stage:
        await stage.event("child.restarted", epoch=6)
        waits = [told["seconds"] for told in stage.told("child.backoff")][:4]
        for waited, delay in zip(waits, [0.02, 0.04, 0.08, 0.16], strict=True):
            assert delay * 0.8 <= waited <= delay * 1.2
        assert {told["reason"] for told in stage.told("child.restarted")} == {"exit code 3"}
        assert stage.announced == []


async def test_a_child_told_to_end_by_someone_else_drains_and_is_replaced_by_one_that_is_not_careful() -> None:
    async with Stage("good") as stage:
        await stage.ready()
        os.kill(stage.pids[0], signal.SIGTERM)
        restarted = await stage.event("child.restarted")
        await stage.line("joined careful=0", times=2)
        assert stage.said("draining") == ["draining"]
        assert restarted["reason"] == "exit code 0"


async def test_a_child_that_never_becomes_ready_is_killed_and_counted() -> None:
    async with Stage("never-ready", limits=Limits(start=0.3)) as stage:
        first = await stage.event("child.restarted")
        assert first["reason"] == "was not ready within 0.3 s (SIGKILL)"
        await stage.event("child.backoff")


async def test_progress_gives_a_starting_child_more_time() -> None:
    async with Stage("progresses 5 0.5") as stage:
        await stage.event("child.waits")
        stage.master.slots[0]._limits = replace(PATIENT, start=1.8)  # not of Python's own start
        ready = await stage.event("child.ready")
        assert ready["epoch"] == 1
        assert ready["seconds"] > 2.5
        assert [told["sentence"][-6:] for told in stage.told("child.waits")] == [f"sign {n}" for n in range(5)]


async def test_a_program_that_is_not_there_is_tried_again_and_stops_at_once(quick_restarts: None) -> None:
    missing = Program("toy:x", ("/nowhere/to/be/found",), {})
    reasons: list[str] = []
    master = Master([missing], on_event=lambda name, level=0, **fields: note(name, fields), signals=())

    def note(name: str, fields: dict[str, str]) -> None:
        if name == "child.backoff":
            reasons.append(fields["reason"])
            if len(reasons) == 3:
                master.stop()

    assert await master.run() == 0
    assert set(reasons) == {"could not be started: /nowhere/to/be/found: No such file or directory"}


# --- children that cannot start


async def test_a_child_that_exits_with_78_before_it_was_ready_ends_the_service() -> None:
    async with Stage("good", "exits 78") as stage:
        assert await stage.code() == 78
        assert stage.announced == ["notifier: toy:1 cannot start and gave no reason (exit code 78)"]
        assert stage.told("child.restarted") == []


async def test_a_refusal_ends_the_service_with_its_code_and_is_told_once() -> None:
    async with Stage("refuses 64 tea", "refuses 64 tea", "good", "refuses 64 tea") as stage:
        assert await stage.code() == 64
        assert stage.announced == ["notifier: tea"]
        assert not any(alive(pid) for pid in stage.pids)


async def test_a_child_that_refuses_and_stays_is_told_to_go() -> None:
    async with Stage("refuses-and-stays") as stage:
        assert await stage.code() == 78
        assert stage.announced == ["notifier: never"]


@pytest.mark.parametrize("toy", ["exits-later 78", "refuses-later 78 tea"])
async def test_what_cannot_start_after_it_once_was_ready_is_only_one_more_reason_to_try_again(
    toy: str, quick_restarts: None
) -> None:
    async with Stage("good", toy) as stage:
        await stage.event("child.restarted", slot="toy:1", epoch=4)
        assert [line for line in stage.announced if line != "ready"] == []
        reasons = {told["reason"] for told in stage.told("child.restarted") if told["epoch"] > 2}
        assert reasons == {"exit code 78: tea" if "tea" in toy else "exit code 78"}
        assert await stage.stopped() == 0


# --- children that break the protocol


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("garbage", "a frame is not JSON"),
        ("oversize", "a frame of 1048577 bytes was announced"),
        ("ready-first", "its first word was 'ready' instead of a HELLO"),
        ("claim-first", "its first word was 'claim' instead of a HELLO"),
        ("unknown-word", "it told 'sing', which the master does not know"),
        ("other-slot", "its HELLO was"),
        ("other-protocol", "its HELLO was"),
    ],
)
async def test_a_child_that_sends_what_is_no_message_is_killed_and_replaced(what: str, complaint: str) -> None:
    async with Stage(f"sends {what}") as stage:
        restarted = await stage.event("child.restarted")
        assert restarted["reason"].startswith(f"broke the protocol of its pipe: {complaint}")
        assert restarted["reason"].endswith("(SIGKILL)")
        await stage.ready()


async def test_a_child_that_asks_without_end_and_reads_nothing_is_killed() -> None:
    async with Stage("floods") as stage:
        ended = await stage.event("child.ended")
        assert "requests came without end and their answers were not read" in ended["reason"]


async def test_a_child_that_lives_on_after_its_pipe_ended_is_ended() -> None:
    async with Stage("closes-its-pipe", limits=Limits(term=0.2)) as stage:
        ended = await stage.event("child.ended")
        assert ended["reason"] == "went on after its pipe had ended (end of file) (SIGKILL)"


async def test_a_child_whose_loop_is_stuck_shows_its_stack_and_ends_itself() -> None:
    async with Stage("stuck 1") as stage:
        ended = await stage.event("child.ended")
        assert ended["reason"] == "exit code 1"
        assert stage.said("Timeout (0:00:01)!")
        assert any("in stuck" in line for _, line in stage.lines)


# --- who kills


async def test_a_key_claimed_alone_at_three_deaths_is_named_to_the_fourth_child(quick_restarts: None) -> None:
    async with Stage("claims killer") as stage:
        await stage.line("joined", times=4)
        seen = [re.sub(" boot.*", "", line) for line in stage.said("joined")]
        assert seen == [
            "joined careful=0 deaths={}",
            "joined careful=1 deaths={'killer': 1}",
            "joined careful=1 deaths={'killer': 2}",
            "joined careful=1 deaths={'killer': 3}",
        ]
        await stage.event("child.ready", epoch=4)


async def test_two_keys_claimed_together_are_never_blamed_and_make_the_next_child_stricter(
    quick_restarts: None,
) -> None:
    async with Stage("claims one other") as stage:
        await stage.line("joined", times=4)
        seen = [re.sub(" boot.*", "", line) for line in stage.said("joined")]
        assert seen[:4] == [f"joined careful={careful} deaths={{}}" for careful in (0, 1, 2, 2)]


async def test_a_child_that_died_calm_is_followed_by_one_that_is_careful_but_not_strict(quick_restarts: None) -> None:
    async with Stage("calms") as stage:
        await stage.line("joined", times=3)
        seen = [re.sub(" boot.*", "", line) for line in stage.said("joined")]
        assert seen == [f"joined careful={careful} deaths={{}}" for careful in (0, 1, 1)]


# --- what children print


async def test_whatever_a_child_prints_arrives_as_lines() -> None:
    async with Stage("talks") as stage:
        await stage.ready()
        await stage.line("not utf-8")
        assert await stage.stopped() == 0
        assert stage.said("not utf-8") == ["not utf-8: \ufffd"]
        assert "".join(stage.said("x")) == "x" * 200_000
        assert stage.said("last words without an end") == ["last words without an end"]


async def test_a_program_left_behind_by_a_child_does_not_hide_its_end() -> None:
    async with Stage("leaves-a-program-behind") as stage:
        await stage.ready()
        left = int((await stage.line("left ")).removeprefix("left "))
        try:
            assert await stage.stopped() == 0
            assert alive(left)
        finally:
            os.kill(left, signal.SIGKILL)


def test_a_boot_state_that_would_not_fit_into_a_frame_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="the boot state of toy:0 is longer than 131072 bytes"):
        Master([Program("toy:0", ("true",), {"x": "x" * 200_000})])
