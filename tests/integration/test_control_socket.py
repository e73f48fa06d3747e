"""The control socket: who may, what can be asked, and clients that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from toys.stage import PATIENCE, Stage

from notifier.errors import (
    AlreadyRunning,
    BadRuntimeDirectory,
    InvalidInput,
    NoAnswer,
    NoMaster,
    PeerGone,
    RequestFailed,
)
from notifier.supervision import control, frames, outbox
from notifier.supervision.master import Master
from notifier.supervision.operator import Operator


@contextlib.asynccontextmanager
async def operating(stage: Stage, directory: Path) -> AsyncIterator[Operator]:
    await stage.ready()
    operator = await Operator.connect(directory)
    try:
        yield operator
    finally:
        await operator.close()


# --- who may


async def test_the_socket_is_for_its_user_alone_and_goes_with_the_master(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    async with Stage("good", directory=directory) as stage:
        await stage.ready()
        assert stat.S_IMODE((directory / "control.sock").stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not (directory / "control.sock").exists()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    async with Stage("good", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        assert (await operator.ask("ping"))["pid"] == os.getpid()


async def test_a_living_master_is_not_pushed_aside(tmp_path: Path) -> None:
    async with Stage("good", directory=tmp_path) as stage:
        await stage.ready()
        second = Master([], runtime_directory=tmp_path, signals=())
        with pytest.raises(AlreadyRunning, match=rf"another master \(pid {os.getpid()}\) is running in"):
            await second.run()
        async with operating(stage, tmp_path) as operator:
            await operator.ask("ping")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
async def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    os.chmod(tmp_path, mode)
    with pytest.raises(BadRuntimeDirectory, match="chmod 700"):
        await Master([], runtime_directory=tmp_path, signals=()).run()


async def test_a_path_too_long_for_a_socket_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadRuntimeDirectory, match="too long for a Unix socket"):
        await Master([], runtime_directory=tmp_path / ("x" * 100), signals=()).run()


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadRuntimeDirectory, match="cannot be made"):
        await Master([], runtime_directory=tmp_path / "file" / "run", signals=()).run()


async def test_without_a_master_an_operator_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoMaster, match="no service is running here"):
        await Operator.connect(tmp_path)


async def test_another_user_is_let_go_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_credentials", lambda _: (1, os.geteuid() + 4711, 0))
    async with Stage("good", directory=tmp_path) as stage:
        await stage.ready()
        operator = await Operator.connect(tmp_path)
        with pytest.raises(PeerGone):
            await operator.ask("ping")
        await operator.close()


# --- what can be asked


async def test_status_tells_everything_about_a_slot(tmp_path: Path) -> None:
    async with Stage("operable", "operable go", directory=tmp_path) as stage:
        await stage.event("child.ready", slot="toy:0")
        await stage.line("joined", "toy:1")
        async with control_of(tmp_path) as operator:
            await operator.ask("push", {"key": "paused", "value": True, "why": "lunch", "for": 60})
            os.kill(stage.pids[0], signal.SIGKILL)
            await stage.event("child.ready", slot="toy:0", epoch=2)
            status = await operator.ask("status")
            first, second = status["slots"]
            assert (status["pid"], status["state"], status["version"]) == (os.getpid(), "starting", 1)
            assert first["state"] == "paused"
            assert first["reason"] == "SIGKILL by someone else: out of memory?"
            assert (first["epoch"], first["restarts"], first["applied"], first["wanted"]) == (2, 1, 1, 1)
            assert first["pid"] == stage.master.slots[0].pid
            assert first["uptime"] >= 0
            assert (second["state"], second["groups"]) == ("starting", ["toy", "odd"])
            (entry,) = (await operator.ask("state"))["entries"]
            assert (entry["key"], entry["value"], entry["why"]) == ("paused", True, "lunch")
            assert entry["who"].startswith(f"root uid=0 pid={os.getpid()}" if os.getuid() == 0 else "")


@contextlib.asynccontextmanager
async def control_of(directory: Path) -> AsyncIterator[Operator]:
    operator = await Operator.connect(directory)
    try:
        yield operator
    finally:
        await operator.close()


async def test_statistics_of_the_heartbeat_are_shown(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        await operator.ask("send", {"to": "all", "action": "note", "data": 1})

        async def heard() -> int:
            return int((await operator.ask("status"))["slots"][0]["statistics"].get("heard", 0))

        async with asyncio.timeout(PATIENCE):
            while await heard() != 1:
                await operator.ask("ping")  # the next heartbeat brings it


async def test_push_clear_send_restart_and_drain_answer_for_each_slot(tmp_path: Path) -> None:
    async with Stage("operable", "operable", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        pushed = await operator.ask("push", {"key": "k", "value": [1]})
        assert [slot["result"] for slot in pushed["slots"]] == ["applied"] * 2
        cleared = await operator.ask("clear", {"key": "k"})
        assert [slot["version"] for slot in cleared["slots"]] == [2, 2]
        sent = await operator.ask("send", {"to": "toy:1", "action": "echo", "data": 7})
        assert sent["replies"][0]["data"]["data"] == 7
        told = await operator.ask("send", {"to": "all", "action": "note", "reply": False})
        assert [reply["result"] for reply in told["replies"]] == ["sent"] * 2
        (restarted,) = (await operator.ask("restart", {"to": "toy:1"}, timeout=PATIENCE))["slots"]
        assert (restarted["result"], restarted["epoch"]) == ("restarted", 2)
        (drained,) = (await operator.ask("drain", {"to": "toy:0"}))["slots"]
        assert drained == {"slot": "toy:0", "result": "drained"}
        (again,) = (await operator.ask("restart", {"to": "toy:0"}, timeout=PATIENCE))["slots"]
        assert again["result"] == "restarted"
        lines = [(told["verb"], told["result"]) for told in stage.told("control")]
        assert lines == [
            ("push", "applied 2"), ("clear", "applied 2"), ("send", "done 1"), ("send", "sent 2"),
            ("restart", "restarted 1"), ("drain", "drained 1"), ("restart", "restarted 1"),
        ]  # fmt: skip
        assert {told["who"].split(" pid=")[1] for told in stage.told("control")} == {str(os.getpid())}


@pytest.mark.parametrize("quick", [False, True])
async def test_shutdown_ends_the_service(tmp_path: Path, quick: bool) -> None:
    async with (
        Stage("hurries" if quick else "good", directory=tmp_path) as stage,
        operating(stage, tmp_path) as operator,
    ):
        assert await operator.ask("shutdown", {"quick": quick}) == {}
        assert await stage.code() == 0
        assert stage.told("service.stopping")[0]["how"] == ("quickly" if quick else "draining")


async def test_stacks_of_a_working_process_and_of_a_stuck_one(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        (shown,) = (await operator.ask("stacks", {"to": "toy:0"}))["slots"]
        assert "in live" in shown["text"]
        await operator.ask("push", {"key": "stuck", "value": "toy:0", "timeout": 0.1})
        (shown,) = (await operator.ask("stacks", {"to": "toy:0"}))["slots"]
        assert "in on_state" in shown["text"]


async def test_reload_asks_the_composition_and_passes_its_refusal_on(tmp_path: Path) -> None:
    async def refuse() -> dict[str, Any]:
        raise InvalidInput("line 3: no such setting")

    async def accept() -> dict[str, Any]:
        return {"live": ["log"], "restart": ["prefetch"]}

    for reload, expected in ((accept, {"live": ["log"], "restart": ["prefetch"]}), (refuse, None), (None, None)):
        async with (
            Stage("good", directory=tmp_path, reload=reload) as stage,
            operating(stage, tmp_path) as operator,
        ):
            if expected is not None:
                assert await operator.ask("reload") == expected
                assert stage.told("service.reloaded")[0]["restart"] == ["prefetch"]
            else:
                with pytest.raises(RequestFailed, match="line 3" if reload else "no settings"):
                    await operator.ask("reload")


@pytest.mark.parametrize(
    ("verb", "body", "complaint"),
    [
        ("sing", {}, "there is no request 'sing'; those there are: status, state, ping, push"),
        ("push", {}, "the value null means nothing"),
        ("push", {"value": 1}, "push: key must be a text"),
        ("push", {"key": 1, "value": 1}, "push: key must be a text, not '1'"),
        ("push", {"key": "k", "value": 1, "timeout": -1}, "timeout must be a number from 0 on"),
        ("push", {"key": "k", "value": 1, "timeout": 1e9}, "timeout is at most 3600 seconds"),
        ("push", {"key": "k", "value": 1, "timeout": True}, "timeout must be a number"),
        ("push", {"key": "k", "value": 1, "critical": 1}, "critical must be true or false"),
        ("push", {"key": "k", "value": 1, "until": "soon"}, "until must be a moment such as"),
        ("push", {"key": "k", "value": 1, "until": "2020-01-01T00:00:00Z"}, "which is over already"),
        ("push", {"key": "k", "value": 1, "until": "2099-01-01T00:00:00Z", "for": 1}, "either until or for"),
        ("send", {"to": "nobody", "action": "x"}, "nobody is called 'nobody'"),
        ("send", {"to": "all"}, "send: action must be a text"),
        ("restart", {"to": "nobody"}, "nobody is called"),
        ("drain", {}, "drain: to must be a text"),
        ("state", {"after": "x"}, "after must be a number"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_in_words(
    tmp_path: Path, verb: str, body: dict[str, Any], complaint: str
) -> None:
    async with Stage("good", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        with pytest.raises(RequestFailed, match=complaint):
            await operator.ask(verb, body)
        assert stage.told("control")[-1]["result"].startswith("refused: ")
        assert stage.master.desired.version == 0


async def test_events_are_followed_until_the_client_goes(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        events = operator.events()
        first = asyncio.create_task(anext(events))
        async with asyncio.timeout(PATIENCE):
            while not first.done():
                await stage.master.push("k", 1, who="tester")
        assert first.result()["event"] == "state.pushed"
        os.kill(stage.pids[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while (event := await anext(events))["event"] != "child.ended":
                assert event["ts"].endswith("Z")
        assert event["level"] == "warning"
        await operator.close()
        async with asyncio.timeout(PATIENCE):
            async for _ in events:
                pass


# --- clients that behave badly


async def test_a_client_that_vanishes_in_the_middle_of_a_request_harms_nothing(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        for _ in range(20):
            operator = await Operator.connect(tmp_path)
            asking = asyncio.create_task(operator.ask("send", {"to": "all", "action": "never"}))
            pushing = asyncio.create_task(operator.ask("push", {"key": "k", "value": 1}))
            await pushing
            await operator.close()
            with pytest.raises(PeerGone):
                await asking
        await stage.line("never called", times=20)
        assert stage.master.slots[0].epoch == 1
        async with control_of(tmp_path) as operator:
            answer = await operator.ask("send", {"to": "all", "action": "echo", "data": 1})
            assert answer["replies"][0]["result"] == "done"


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", frames.LIMIT + 1),
        struct.pack(">I", 5) + b"hello",
        frames.encode({"tell": "hello", "body": {}}),
        struct.pack(">I", 100) + b"half a frame",
    ],
    ids=["http", "too long", "not json", "a notice", "half"],
)
async def test_a_client_that_sends_garbage_is_let_go_alone(tmp_path: Path, said: bytes) -> None:
    async with Stage("good", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert (await operator.ask("ping"))["pid"] == os.getpid()


async def test_a_client_that_follows_and_does_not_read_is_let_go_and_the_master_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LIMIT", 50_000)
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        _, writer = await asyncio.open_unix_connection(tmp_path / "control.sock", limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(frames.encode({"ask": "events", "id": 1, "body": {}}))
        await writer.drain()
        control_ = stage.master._control
        assert control_ is not None
        async with asyncio.timeout(PATIENCE):
            while not control_.followed:
                await stage.master.push("k", 0, who="tester")
            while control_.followed:
                await stage.master.push("k", "x", who="tester" * 100)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        async with control_of(tmp_path) as operator:
            await operator.ask("ping")


async def test_a_master_that_does_not_answer_is_a_timeout_for_the_operator(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage, operating(stage, tmp_path) as operator:
        with pytest.raises(NoAnswer):
            await operator.ask("send", {"to": "toy:0", "action": "never"}, timeout=0.1)
