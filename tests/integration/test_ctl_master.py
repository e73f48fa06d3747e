"""`notifier ctl` as a process of its own, against a real master with toy children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from toys.stage import PATIENCE, Stage

from notifier.errors import ConfigurationError
from tests.acceptance.service import notifier

CTL = [sys.executable, "-m", "notifier", "ctl"]


def environment(directory: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    return own | {"NOTIFIER_RUNTIME_DIR": str(directory)}


@contextlib.asynccontextmanager
async def started(directory: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The command, in a directory without settings; ended by force if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *CTL, *words, env=environment(directory), cwd=directory, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def ctl(directory: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    async with asyncio.timeout(PATIENCE):
        return await notifier(environment(directory), "ctl", *words, cwd=directory)


async def line(process: asyncio.subprocess.Process, pattern: str) -> str:
    """The next line of stdout in which the pattern is found."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while raw := await process.stdout.readline():
            if re.search(pattern, raw.decode()):
                return raw.decode()
    raise AssertionError(f"no line with {pattern}")


async def test_ping_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, notifier.cli\ncode = notifier.cli.execute(['ctl', 'ping'])\nprint(*sys.modules)\nsys.exit(code)"
    )
    async with Stage("good", directory=tmp_path) as stage:
        await stage.ready()
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], env=environment(tmp_path), cwd=tmp_path,
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    answer, modules = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert answer.startswith(f"the master answers: pid {os.getpid()}, ")
    heavy = {"pydantic", "rich", "aiohttp", "aio_pika", "aiormq", "uvloop", "notifier.settings", "notifier.sources"}
    assert not heavy & set(modules.split())


async def test_status_shows_each_slot_as_it_is(tmp_path: Path) -> None:
    async with Stage("operable", "operable", directory=tmp_path) as stage:
        await stage.ready()
        code, out, err = await ctl(tmp_path, "status")
        assert (code, err) == (0, "")
        assert out.startswith("2 of 2 processes ready; up ")
        first, second = (slot.pid for slot in stage.master.slots)
        rows = [row.split() for row in out.splitlines()[3:5]]
        assert [(row[0], row[1], row[2]) for row in rows] == [
            ("toy:0", "ready", str(first)),
            ("toy:1", "ready", str(second)),
        ]
        code, out, _ = await ctl(tmp_path, "drain", "toy:1")
        assert (code, out) == (0, "toy:1 is drained, and stays away until: notifier ctl restart toy:1\n")
        _, out, _ = await ctl(tmp_path, "status")
        assert out.splitlines()[1] == "! toy:1 is stopped, until: notifier ctl restart toy:1"


async def test_a_block_is_live_in_all_processes_and_says_so_also_over_a_restart(tmp_path: Path) -> None:
    async with Stage("operable", "operable", "operable", directory=tmp_path) as stage:
        await stage.ready()
        code, out, _ = await ctl(tmp_path, "block", "shop-7", "--reason", "INC-118", "--for", "1h")
        assert code == 0
        assert re.fullmatch(r"shop-7 is blocked on this machine until \S+Z: live in 3 of 3 processes\n", out)
        for number in range(3):
            assert stage.said("applied block/shop-7={'blocked': True, 'reason': 'INC-118'}", f"toy:{number}")
        told = json.loads((await ctl(tmp_path, "status", "--json"))[1])
        (entry,) = told["entries"]
        assert (entry["key"], entry["why"]) == ("block/shop-7", "INC-118")
        assert re.fullmatch(rf"\S+ uid={os.geteuid()} pid=\d+", entry["who"])
        assert entry["until"] > entry["since"]
        code, out, _ = await ctl(tmp_path, "restart", "odd")
        assert code == 0
        assert re.fullmatch(r"toy:1 is ready again after [\d.]+ s, pid \d+, epoch 2\n", out)
        await stage.line("joined state=1 ", "toy:1")
        assert await ctl(tmp_path, "unblock", "shop-7") == (
            0, "shop-7 is no longer blocked: live in 3 of 3 processes\n", "",
        )  # fmt: skip


async def test_what_a_process_cannot_apply_stands_on_top_of_the_page(tmp_path: Path) -> None:
    async with Stage("operable", "operable", directory=tmp_path) as stage:
        await stage.ready()
        await stage.master.push("fail", "anything", who="a test")
        code, out, _ = await ctl(tmp_path, "status")
        assert code == 0
        troubles = [row for row in out.splitlines() if row.startswith("! ")]
        assert [row.partition(": ")[0] for row in troubles] == [
            "! toy:0 cannot apply fail",
            "! toy:1 cannot apply fail",
        ]
        assert "cannot be anything" in troubles[0]


async def test_a_process_that_hangs_is_replaced_before_the_block_is_answered(tmp_path: Path) -> None:
    async with Stage("operable", "operable", directory=tmp_path) as stage:
        await stage.ready()
        stuck = asyncio.create_task(stage.master.push("hang", "toy:1", who="a test", timeout=0.1))
        await stage.line("hangs", "toy:1")
        await stuck
        code, out, err = await ctl(tmp_path, "block", "shop-7")
        assert (code, out) == (1, "shop-7 is blocked on this machine: live in 1 of 2 processes\n")
        assert err.splitlines() == [
            "notifier: this service runs without an agent (notifier run --no-agent), and nobody else can change that; "
            "so shop-7 is blocked on this machine alone, not in the registry",
            "notifier: toy:1 did not answer in time and was killed; its next process has it before it does anything",
        ]
        await stage.event("child.ready", slot="toy:1", epoch=2)
        assert stage.said("applied block/shop-7", "toy:1")


async def test_messages_go_to_whom_they_are_addressed_and_answers_are_printed(tmp_path: Path) -> None:
    async with Stage("operable", "operable", "operable", directory=tmp_path) as stage:
        await stage.ready()
        code, out, _ = await ctl(
            tmp_path, "send", "echo", "--data", '{"sku": 7}', "--to", "even", "--request", "--json"
        )
        assert code == 0
        replies = json.loads(out)["replies"]
        assert [(reply["slot"], reply["data"]["data"], reply["data"]["from"]) for reply in replies] == [
            ("toy:0", {"sku": 7}, "ctl"),
            ("toy:2", {"sku": 7}, "ctl"),
        ]  # fmt: skip
        code, out, _ = await ctl(tmp_path, "send", "note", "--data", "1")
        assert (code, out) == (0, "toy:0: sent\ntoy:1: sent\ntoy:2: sent\n")
        await asyncio.gather(*(stage.line("noted 1 from ctl", f"toy:{number}") for number in range(3)))
        code, _, err = await ctl(tmp_path, "send", "fails", "--to", "toy:0", "--request")
        assert code == 1
        assert "a bug of this handler" in err
        code, _, err = await ctl(tmp_path, "send", "never", "--to", "toy:0", "--request", "--timeout", "0.1s")
        assert code == 1
        assert err == "notifier: toy:0: 'never' was not answered within 0.1 s\n"


async def test_an_operator_who_leaves_in_the_middle_of_a_request_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        async with started(tmp_path, "send", "never", "--request") as process:
            await stage.line("never called")
            process.kill()
            await process.wait()
        code, _, _ = await ctl(tmp_path, "send", "echo", "--request")
        assert code == 0


async def test_stacks_name_the_place(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        code, out, _ = await ctl(tmp_path, "stacks")
        assert code == 0
        assert out.startswith(f"== toy:0, pid {stage.master.slots[0].pid}, epoch 1\n")
        assert "await parent.draining.wait()" in out


async def test_events_tell_what_happens_as_it_happens_and_end_with_the_service(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        async with started(tmp_path, "events", "--follow", "--level", "debug") as following:
            await followed(tmp_path, following)
            await ctl(tmp_path, "block", "shop-7")
            told = await line(following, r" control .*verb=push")
            assert "key=block/shop-7" in told
            code, out, _ = await ctl(tmp_path, "shutdown")
            assert (code, out) == (0, "the service has ended\n")
            assert await stage.code() == 0
            async with asyncio.timeout(PATIENCE):
                _, err = await following.communicate()
            assert (following.returncode, err.decode()) == (1, "notifier: the service has ended\n")


async def followed(directory: Path, following: asyncio.subprocess.Process) -> None:
    """Return when it hears: pings are told at the level debug."""
    heard = asyncio.create_task(line(following, r" control .*verb=ping"))
    while not heard.done():
        await ctl(directory, "ping")
    await heard


@pytest.mark.parametrize("words", [["stats", "--watch", "--json"], ["stats", "--watch"]])
async def test_watching_goes_on_until_ctrl_c(tmp_path: Path, words: list[str]) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        async with started(tmp_path, *words) as watching:
            for _ in range(2):
                seen = await line(watching, "toy:0")
            if "--json" in words:
                assert json.loads(seen)["slots"][0]["state"] == "ready"
            watching.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                _, err = await watching.communicate()
            assert (watching.returncode, err) == (130, b"")


async def test_watching_a_service_that_ends_says_so(tmp_path: Path) -> None:
    async with Stage("operable", directory=tmp_path) as stage:
        await stage.ready()
        async with started(tmp_path, "stats", "--watch") as watching:
            await line(watching, "toy:0")
            assert await stage.stopped() == 0
            async with asyncio.timeout(PATIENCE):
                _, err = await watching.communicate()
            assert watching.returncode == 1
            assert err.startswith(b"notifier: the service ended before it answered")


async def test_a_shutdown_can_be_quick(tmp_path: Path) -> None:
    async with Stage("hurries", directory=tmp_path) as stage:
        await stage.ready()
        code, out, _ = await ctl(tmp_path, "shutdown", "--quick")
        assert (code, out) == (0, "the service has ended\n")
        assert await stage.code() == 0


async def test_reload_tells_what_changed_and_why_it_was_refused(tmp_path: Path) -> None:
    answers: list[Any] = [{"live": ["log.level"], "restart": ["ack"], "service": []}, ConfigurationError("ack is x")]

    async def reload() -> dict[str, list[str]]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    async with Stage("good", directory=tmp_path, reload=reload) as stage:
        await stage.ready()
        assert await ctl(tmp_path, "reload") == (0, "in force now: log.level\nafter `notifier ctl restart`: ack\n", "")
        assert await ctl(tmp_path, "reload") == (1, "", "notifier: ack is x\n")
