"""The desired state: pushed, answered, kept over deaths, ended by itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from toys.stage import PATIENCE, Stage, alive

from notifier.errors import InvalidInput
from notifier.supervision import feed, restart
from notifier.supervision.departure import Limits


@pytest.fixture
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(restart, "LONGEST_DELAY", 0.05)


async def state_of(stage: Stage, slot: str) -> dict[str, Any]:
    (reply,) = await stage.master.send(slot, "state", None, timeout=PATIENCE)
    return dict(reply.value())


async def test_a_push_is_applied_in_every_process_when_it_is_answered() -> None:
    async with Stage("operable", "operable", "operable") as stage:
        await stage.ready()
        answer = await stage.master.push("limit", {"n": 5}, who="tester")
        assert answer == {
            "key": "limit", "version": 1, "saved": True,
            "slots": [{"slot": f"toy:{n}", "epoch": 1, "result": "applied", "version": 1} for n in range(3)],
        }  # fmt: skip
        for number in range(3):
            assert await state_of(stage, f"toy:{number}") == {"version": 1, "state": {"limit": {"n": 5}}}


async def test_a_cleared_key_is_gone_in_every_process() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        await stage.master.push("limit", 5, who="tester")
        answer = await stage.master.push("limit", None, who="tester")
        assert stage.results(answer) == ["applied", "applied"]
        assert stage.said("applied limit") == ["applied limit=5", "applied limit=None"]
        assert await state_of(stage, "toy:1") == {"version": 2, "state": {}}


async def test_a_process_that_cannot_apply_a_key_says_why_and_the_others_apply_it_and_it_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "AGAIN", 0.05)
    async with Stage("operable", "good") as stage:
        await stage.ready()
        answer = await stage.master.push("fail", "blue", who="tester")
        assert stage.results(answer) == ["error", "applied"]
        assert answer["slots"][0]["error"] == "failed: ValueError('cannot be blue')"
        assert stage.master.status()["slots"][0]["errors"] == {"fail": "failed: ValueError('cannot be blue')"}
        assert stage.results(await stage.master.push("other", 1, who="tester")) == ["applied", "applied"]
        await stage.until(lambda: list(stage.said("Traceback"))[2:] or None)  # it was tried three times


async def test_a_process_that_does_not_answer_a_push_is_a_timeout_and_goes_on() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        answer = await stage.master.push("hang", "toy:0", who="tester", timeout=2)
        assert stage.results(answer) == ["timeout", "applied"]
        assert answer["slots"][0]["restarted"] is False
        assert stage.told("child.restarted") == []


@pytest.mark.parametrize("key", ["hang", "stuck"])
async def test_a_process_that_does_not_answer_a_critical_push_in_time_is_gone_when_it_is_answered(key: str) -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        first = stage.pids[0]
        answer = await stage.master.push(key, "toy:0", who="tester", timeout=2, critical=True)
        assert stage.results(answer) == ["timeout", "applied"]
        assert answer["slots"][0]["restarted"] is True
        assert not alive(first)
        restarted = await stage.event("child.restarted")
        assert restarted["reason"] == f"did not apply '{key}' within 2 s (SIGKILL)"
        await stage.event("child.ready", epoch=2)
        assert (await state_of(stage, "toy:0"))["state"] == {key: "toy:0"}


async def test_a_stopped_process_is_killed_by_a_critical_push() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        os.kill(stage.pids[0], signal.SIGSTOP)
        answer = await stage.master.push("block", 1, who="tester", timeout=0.2, critical=True)
        assert answer["slots"][0]["restarted"] is True
        await stage.event("child.ready", epoch=2)


async def test_a_process_that_dies_with_a_push_is_gone_at_once_and_the_next_one_has_it() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        pushing = asyncio.create_task(stage.master.push("hang", "toy:0", who="tester", timeout=3600))
        await stage.line("hangs")
        os.kill(stage.pids[0], signal.SIGKILL)
        answer = await asyncio.wait_for(pushing, PATIENCE)
        assert stage.results(answer) == ["gone"]
        await stage.event("child.ready", epoch=2)
        assert await state_of(stage, "toy:0") == {"version": 1, "state": {"hang": "toy:0"}}


async def test_a_process_has_the_whole_state_before_it_does_anything_even_if_it_is_larger_than_a_frame() -> None:
    async with Stage("operable go") as stage:
        for number in range(30):
            stage.master.desired.push(f"quiet{number}", "x" * 100_000, time.time(), who="tester")
        await stage.line("joined state=30 version=30")
        await stage.master.push("go", True, who="tester")
        await stage.ready()
        assert len(await state_of_keys(stage)) == 31


async def state_of_keys(stage: Stage) -> list[str]:
    child = stage.master.slots[0].child
    assert child is not None
    assert child.feed.applied == stage.master.desired.version
    return [entry.key for entry in stage.master.desired.present()]


async def test_a_key_ends_by_itself() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        answer = await stage.master.push("paused", True, who="night shift", until=time.time() + 2)
        assert stage.results(answer) == ["applied"]
        assert stage.master.status()["slots"][0]["state"] == "paused"
        ended = await stage.event("state.ended")
        assert (ended["key"], ended["who"]) == ("paused", "night shift")
        await stage.line("applied paused=None")
        assert await state_of(stage, "toy:0") == {"version": 2, "state": {}}
        assert stage.master.status()["slots"][0]["state"] == "ready"


@pytest.mark.parametrize(
    ("key", "value", "until", "complaint"),
    [
        ("", 1, None, "a key has 1 to 256 printable characters"),
        ("two\nlines", 1, None, "a key has 1 to 256"),
        ("k" * 257, 1, None, "a key has 1 to 256"),
        ("k", "x" * 300_000, None, "at most 262144 are possible"),
        ("k", float("nan"), None, "cannot be written as JSON"),
        ("k", 1, 1.0, "1970-01-01T00:00:01.000Z, which is over already"),
    ],
)
async def test_what_cannot_be_desired_is_refused_and_changes_nothing(
    key: str, value: Any, until: float | None, complaint: str
) -> None:
    async with Stage("operable") as stage:
        with pytest.raises(InvalidInput, match=complaint):
            await stage.master.push(key, value, who="tester", until=until)
        assert stage.master.desired.version == 0


# --- over the death of the master


async def test_the_desired_state_survives_the_master(tmp_path: Path) -> None:
    end = time.time() + 3600
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        await stage.master.push("gone", 1, who="tester")
        await stage.master.push("kept", [1, "ü"], who="tester", why="a reason", until=end)
        assert (await stage.master.push("gone", None, who="tester"))["saved"] is True
        before = [entry.shown() for entry in stage.master.desired.present()]
    file = tmp_path / "state.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        assert [entry.shown() for entry in stage.master.desired.present()] == before
        assert await state_of(stage, "toy:0") == {"version": 3, "state": {"kept": [1, "ü"]}}
        assert (await stage.master.push("next", 1, who="tester"))["version"] == 4


async def test_what_ended_while_no_master_was_there_is_not_in_force_any_more(tmp_path: Path) -> None:
    entry = {"key": "paused", "value": 1, "version": 7, "who": "a", "why": None}
    entry |= {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}
    (tmp_path / "state.json").write_text(json.dumps({"format": 1, "version": 9, "entries": [entry]}))
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.event("state.ended", key="paused")
        await stage.ready()
        assert await state_of(stage, "toy:0") == {"version": 10, "state": {}}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2, "version": 1, "entries": []}', b"\xff\xfe", b"[" * 100_000,
     b'{"format": 1, "version": 1, "entries": [{"key": "a"}]}'],
    ids=["empty", "cut", "list", "other format", "not text", "nested", "no entry"],
)  # fmt: skip
async def test_a_state_file_that_cannot_be_read_is_kept_aside_and_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    async with Stage("operable", directory=tmp_path) as stage:
        told = await stage.event("state.unreadable")
        assert told["kept_as"] == str(tmp_path / "state.json.unreadable")
        assert (await stage.master.push("a", 1, who="tester"))["saved"] is True
    assert (tmp_path / "state.json.unreadable").read_bytes() == content


async def test_a_state_that_cannot_be_kept_is_in_force_all_the_same_and_the_answer_says_so(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        (tmp_path / "state.json.new").mkdir()
        answer = await stage.master.push("a", 1, who="tester")
        assert (answer["saved"], stage.results(answer)) == (False, ["applied"])
        assert stage.master.status()["saved"] is False
        (tmp_path / "state.json.new").rmdir()
        await stage.event("state.saved")
        assert stage.master.status()["saved"] is True
        assert json.loads((tmp_path / "state.json").read_bytes())["entries"][0]["key"] == "a"


# --- drift


async def test_a_process_that_lost_what_it_had_gets_it_again_and_that_is_told() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        await stage.master.push("a", 1, who="tester")
        child = stage.master.slots[0].child
        assert child is not None
        child.noticed("beat", {"version": 0, "paused": False, "statistics": {}})  # as if it came from the child
        assert (await stage.event("state.drift"))["had"] == 0
        assert stage.results(await stage.master.push("b", 1, who="tester")) == ["applied"]
        assert await state_of(stage, "toy:0") == {"version": 2, "state": {"a": 1, "b": 1}}


# --- under fire


async def pushes_while_restarting(times: int) -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        kills = 0

        async def kill_again_and_again() -> None:
            nonlocal kills
            while True:
                epoch = stage.master.slots[0].epoch
                await stage.event("child.ready", slot="toy:0", epoch=epoch)
                os.kill(stage.master.slots[0].pid or 0, signal.SIGKILL)
                kills += 1
                await stage.event("child.ended", slot="toy:0", epoch=epoch)
                await stage.event("child.restarted", slot="toy:0", epoch=epoch + 1)

        killing = asyncio.create_task(kill_again_and_again())
        for number in range(times):
            key = f"quiet{number % 97}"
            value = None if number % 5 == 4 else number
            pushed = asyncio.create_task(stage.master.push(key, value, who="tester", timeout=PATIENCE))
            if number % 50 == 49:
                await pushed
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        await stage.master.push("quiet", "last", who="tester", timeout=PATIENCE)
        assert kills >= times // 1000
        wanted = {entry.key: entry.value for entry in stage.master.desired.present()}
        for number in range(2):
            assert await state_of(stage, f"toy:{number}") == {"version": times + 1, "state": wanted}


async def test_a_thousand_pushes_while_a_child_restarts_again_and_again_end_in_the_masters_state(
    quick_restarts: None,
) -> None:
    await pushes_while_restarting(1000)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_ten_thousand_pushes_while_a_child_restarts_again_and_again_end_in_the_masters_state(
    quick_restarts: None,
) -> None:
    await pushes_while_restarting(10_000)


async def test_a_process_that_hangs_costs_the_master_no_memory_however_much_is_pushed() -> None:
    limits = Limits(start=PATIENCE, drain=1, term=1, quick=1, warn=3600, silence=3600, unread=3600)
    async with Stage("operable", limits=limits) as stage:
        await stage.ready()
        os.kill(stage.pids[0], signal.SIGSTOP)
        tasks = [
            asyncio.create_task(stage.master.push("quiet", "x" * 10_000 + str(n), who="t", timeout=0.5))
            for n in range(2000)
        ]
        answers = await asyncio.gather(*tasks)
        assert {result for answer in answers for result in stage.results(answer)} == {"timeout"}
        child = stage.master.slots[0].child
        assert child is not None
        assert child.unanswered == 1
        assert len(stage.master.desired.present()) == 1
        os.kill(stage.pids[0], signal.SIGCONT)
        await stage.master.push("quiet", "end", who="t", timeout=PATIENCE)
        assert (await state_of(stage, "toy:0"))["state"] == {"quiet": "end"}
