"""Messages between operators, master and children. Several tests are named after the seed article whose feature they
hold, with what that article's system lacked.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from toys.stage import PATIENCE, Stage

from notifier.errors import BadAddress, BadFrame
from notifier.supervision import inbox, restart, slot
from notifier.supervision.actions import Reply, Sender
from notifier.supervision.slot import State


async def sent(stage: Stage, to: str, action: str, data: Any = None, timeout: float = PATIENCE) -> list[Reply]:
    return await stage.master.send(to, action, data, timeout=timeout)


async def value(stage: Stage, to: str, action: str, data: Any = None) -> Any:
    (reply,) = await sent(stage, to, action, data)
    return reply.value()


# --- seed 001: named actions, addressing, replies


async def test_seed_001_a_message_to_one_process_reaches_the_handler_of_its_action() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        answer = await value(stage, "toy:1", "echo", {"time": 5})
        assert answer == {"data": {"time": 5}, "from": "ctl", "epoch": 0, "here": "toy:1"}


async def test_seed_001_a_message_to_all_processes_reaches_all() -> None:
    async with Stage("operable", "operable", "operable") as stage:
        await stage.ready()
        replies = await stage.master.send("all", "note", "tea", reply=False)
        assert [(reply.slot, reply.result) for reply in replies] == [(f"toy:{n}", "sent") for n in range(3)]
        for number in range(3):
            await stage.line("noted tea from ctl", f"toy:{number}")


@pytest.mark.parametrize(
    ("to", "slots"),
    [("all", [0, 1, 2]), ("others", [0, 1, 2]), ("toy", [0, 1, 2]), ("even", [0, 2]), ("odd", [1]), ("toy:2", [2])],
)
async def test_seed_001_several_processes_can_be_addressed(to: str, slots: list[int]) -> None:
    async with Stage("operable", "operable", "operable") as stage:
        await stage.ready()
        assert [reply.slot for reply in await sent(stage, to, "echo")] == [f"toy:{number}" for number in slots]


async def test_seed_001_each_request_gets_its_own_reply_by_the_ids_of_the_framework() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        asking = [sent(stage, "toy:1", "echo", n) for n in range(50)]
        asking += [sent(stage, "toy:0", "relay", {"to": "toy:1", "action": "echo", "data": n}) for n in range(50, 100)]
        replies = await asyncio.gather(*asking)
        assert [reply.value()["data"] for (reply,) in replies[:50]] == list(range(50))
        assert [reply.value()[0]["data"]["data"] for (reply,) in replies[50:]] == list(range(50, 100))


async def test_seed_001_a_request_without_reply_ends_with_its_timeout_and_a_late_reply_harms_nobody() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        (reply,) = await sent(stage, "toy:0", "never", timeout=0.1)
        assert (reply.result, reply.error) == ("timeout", "'never' was not answered within 0.1 s")
        assert (await value(stage, "toy:0", "echo", 1))["data"] == 1


async def test_a_request_fails_at_once_when_the_process_dies_with_it() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        asking = asyncio.create_task(sent(stage, "toy:0", "never", timeout=3600))
        await stage.line("never called")
        os.kill(stage.pids[0], signal.SIGKILL)
        (reply,) = await asyncio.wait_for(asking, PATIENCE)
        assert (reply.slot, reply.epoch, reply.result) == ("toy:0", 1, "gone")


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("sing", "there is no action 'sing' here; those there are: echo, ends, fails, huge, never, note, notes"),
        ("fails", "fails failed: KeyError('a bug of this handler')"),
        ("huge", "there is an answer, but a message of"),
    ],
)
async def test_what_goes_wrong_in_a_process_is_the_senders_error_and_costs_nobody_the_link(
    action: str, error: str
) -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        (reply,) = await sent(stage, "toy:0", action)
        assert reply.result == "error"
        assert error in (reply.error or "")
        assert (await value(stage, "toy:0", "echo", 1))["data"] == 1
        assert stage.told("child.ended") == []


async def test_an_address_that_nobody_has_is_refused_by_name() -> None:
    async with Stage("operable") as stage:
        with pytest.raises(
            BadAddress, match="nobody is called 'toy:9'; there are all, others, any, any:GROUP, and even"
        ):
            await stage.master.send("toy:9", "echo", None)


async def test_data_that_is_no_json_is_an_error_of_the_sender_alone() -> None:
    async with Stage("operable") as stage:
        await stage.ready()
        for data in ({1, 2}, "x" * 2_000_000):
            (reply,) = await stage.master.send("toy:0", "echo", data)
            assert reply.result == "error"
        assert (await value(stage, "toy:0", "echo", 1))["data"] == 1


# --- seed 002: restart into the same slot


async def test_seed_002_a_dead_child_is_started_again_with_its_name_and_messages_find_the_new_one() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        await stage.master.send("toy:1", "ends", "SIGKILL", reply=False)
        await stage.event("child.ended", slot="toy:1")
        (reply,) = await sent(stage, "toy:1", "echo", "after")
        assert (reply.epoch, reply.value()["here"]) == (2, "toy:1")
        assert (await sent(stage, "toy:0", "echo"))[0].epoch == 1


# --- seed 004: relay through the master


async def test_seed_004_a_child_reaches_another_one_through_the_master_and_is_seen_as_the_sender() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        (reply,) = await value(stage, "toy:0", "relay", {"to": "toy:1", "action": "echo", "data": "hi"})
        assert reply == {
            "slot": "toy:1", "epoch": 1, "result": "done",
            "data": {"data": "hi", "from": "toy:0", "epoch": 1, "here": "toy:1"},
        }  # fmt: skip


async def test_seed_004_a_child_tells_all_others_and_not_itself() -> None:
    async with Stage("operable", "operable", "operable") as stage:
        await stage.ready()
        replies = await value(stage, "toy:1", "relay_tell", {"to": "others", "action": "note", "data": "refresh"})
        assert [(reply["slot"], reply["result"]) for reply in replies] == [("toy:0", "sent"), ("toy:2", "sent")]
        await stage.line("noted refresh from toy:1", "toy:0")
        await stage.line("noted refresh from toy:1", "toy:2")
        assert await value(stage, "toy:1", "notes") == []


async def test_seed_004_a_message_to_any_one_reaches_exactly_one_and_in_time_each() -> None:
    async with Stage("operable", "operable", "operable go") as stage:
        await stage.event("child.ready", slot="toy:0")
        await stage.event("child.ready", slot="toy:1")
        seen = set()
        while len(seen) < 2:
            (reply,) = await sent(stage, "any", "echo")
            seen.add(reply.slot)
        assert seen == {"toy:0", "toy:1"}  # the third one does not work yet, so it is not chosen
        (reply,) = await sent(stage, "any:odd", "echo")
        assert reply.slot == "toy:1"


async def test_seed_004_a_message_to_a_role_reaches_the_process_of_that_role() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        (reply,) = await value(stage, "toy:0", "relay", {"to": "odd", "action": "echo", "data": 1})
        assert reply["slot"] == "toy:1"


async def test_seed_004_a_message_sent_before_a_child_is_ready_is_not_lost_and_keeps_its_order() -> None:
    async with Stage("operable go", "operable") as stage:
        await stage.event("child.ready", slot="toy:1")
        for number in range(5):
            (reply,) = await stage.master.send("toy:0", "note", number, reply=False)
            assert reply.result == "waits"
        asking = asyncio.create_task(sent(stage, "toy:0", "echo", "asked"))
        (told,) = await value(stage, "toy:1", "relay_tell", {"to": "toy:0", "action": "note", "data": "last"})
        assert told["result"] == "waits"
        assert stage.master.status()["slots"][0]["waiting"] == 7
        await stage.master.push("go", True, who="tester")
        assert (await asking)[0].value()["data"] == "asked"
        assert await value(stage, "toy:0", "notes") == [0, 1, 2, 3, 4, "last"]
        assert stage.master.status()["slots"][0]["waiting"] == 0


async def test_a_message_that_waits_outlives_the_death_of_the_process_it_waits_for() -> None:
    async with Stage("operable go") as stage:
        await stage.line("joined")
        asking = asyncio.create_task(sent(stage, "toy:0", "echo", "asked"))
        os.kill(stage.pids[0], signal.SIGKILL)
        await stage.event("child.restarted")
        await stage.master.push("go", True, who="tester", timeout=PATIENCE)
        (reply,) = await asking
        assert (reply.epoch, reply.result) == (2, "done")


async def test_a_message_that_waits_longer_than_its_timeout_is_never_delivered() -> None:
    async with Stage("operable go") as stage:
        (reply,) = await sent(stage, "toy:0", "note", "too late", timeout=0.05)
        assert reply.result == "timeout"
        await stage.master.push("go", True, who="tester", timeout=PATIENCE)
        assert await value(stage, "toy:0", "notes") == []


async def test_beyond_the_bound_messages_that_would_wait_are_busy_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LIMIT", 3)
    async with Stage("operable go") as stage:
        results = [(await stage.master.send("toy:0", "note", n, reply=False))[0].result for n in range(5)]
        assert results == ["waits"] * 3 + ["busy"] * 2


async def test_beyond_the_bound_messages_to_a_process_that_does_not_answer_are_busy_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot, "UNANSWERED_LIMIT", 10)
    async with Stage("operable") as stage:
        await stage.ready()
        results = [(await stage.master.send("toy:0", "never", n, reply=False))[0].result for n in range(12)]
        assert results == ["sent"] * 10 + ["busy"] * 2


async def test_messages_to_a_stopped_slot_are_gone_and_those_that_waited_for_it_too() -> None:
    async with Stage("operable go", "operable") as stage:
        await stage.line("joined")
        asking = asyncio.create_task(sent(stage, "toy:0", "echo"))
        assert [slot["result"] for slot in await stage.master.drain("toy:0")] == ["drained"]
        assert stage.master.slots[0].state is State.STOPPED
        assert (await asking)[0].result == "gone"
        assert (await sent(stage, "toy:0", "echo"))[0].result == "gone"


async def test_a_requester_that_dies_costs_the_one_who_was_asked_nothing() -> None:
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        await stage.master.send("toy:0", "relay", {"to": "toy:1", "action": "never"}, reply=False)
        await stage.line("never called", "toy:1")
        os.kill(stage.pids[0], signal.SIGKILL)
        await stage.event("child.ready", slot="toy:0", epoch=2)
        assert (await value(stage, "toy:1", "echo", 1))["data"] == 1


async def test_a_relayed_request_fails_at_once_when_the_one_who_was_asked_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.01)
    async with Stage("operable", "operable") as stage:
        await stage.ready()
        asking = asyncio.create_task(
            value(stage, "toy:0", "relay", {"to": "toy:1", "action": "never", "timeout": 3600})
        )
        await stage.line("never called", "toy:1")
        os.kill(stage.master.slots[1].pid or 0, signal.SIGKILL)
        (reply,) = await asyncio.wait_for(asking, PATIENCE)
        assert (reply["slot"], reply["epoch"], reply["result"]) == ("toy:1", 1, "gone")


def test_a_reply_is_read_back_and_garbage_is_not() -> None:
    for reply in (Reply("a", 1, "done", [1]), Reply("a", 0, "busy", error="so"), Reply("a", 2, "sent")):
        assert Reply.read(reply.shown()) == reply
    with pytest.raises(BadFrame):
        Reply.read({"slot": "a"})
    assert str(Sender("toy:1", 3)) == "toy:1 (epoch 3)"
