"""`notifier run` as a process: what it needs, its children, its titles. No broker listens here: that is acceptance."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from toys.stage import PATIENCE, watching

from notifier.domain.signature import Secret

NOTIFIER = [sys.executable, "-P", "-m", "notifier"]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a broker that is not there: the port is held, and nothing listens on it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"amqp://guest:hidden@127.0.0.1:{held.getsockname()[1]}/"


def environment(**settings: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    return own | {f"NOTIFIER_{name}": value for name, value in settings.items()}


def ran(directory: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NOTIFIER, "run", *arguments],
        env=environment(RUNTIME_DIR=str(directory / "run"), **settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_without_a_broker_it_exits_with_78_and_names_both_ways(tmp_path: Path) -> None:
    done = ran(tmp_path, SIGNING_SECRET=SECRET)
    assert done.returncode == 78
    assert "export NOTIFIER_AMQP_URL=amqp://" in done.stderr
    assert "notifier dev" in done.stderr
    assert "make broker" in done.stderr


def test_without_a_secret_it_exits_with_78_and_prints_a_fresh_one_that_works(tmp_path: Path, nobody: str) -> None:
    first, second = (ran(tmp_path, AMQP_URL=nobody) for _ in range(2))
    assert (first.returncode, second.returncode) == (78, 78)
    lines = [line for done in (first, second) for line in done.stderr.splitlines() if line.startswith("export ")]
    fresh = [line.removeprefix("export NOTIFIER_SIGNING_SECRET=") for line in lines]
    assert len(Secret.parse(fresh[0]).key) == 32
    assert len(set(fresh)) == 2


@pytest.mark.parametrize(
    ("tier", "code", "complaint"),
    [
        ("7s", 78, "tier 7s is in no configured ladder; the configured tiers are 1s, 3s, 5s, 15s, 30s"),
        ("soon", 1, "'soon' is not a tier"),
    ],
)
def test_a_tier_that_cannot_be_run_is_refused_by_name(
    tmp_path: Path, nobody: str, tier: str, code: int, complaint: str
) -> None:
    done = ran(tmp_path, "--tier", "1s", "--tier", tier, AMQP_URL=nobody, SIGNING_SECRET=SECRET)
    assert done.returncode == code
    assert complaint in done.stderr


@contextlib.asynccontextmanager
async def running(directory: Path, *arguments: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *NOTIFIER, "run", "--no-agent", "--no-api", *arguments,
        env=environment(RUNTIME_DIR=str(directory / "run"), **settings), cwd=directory,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    """The next line of stderr in which the pattern is found."""
    assert process.stderr is not None
    seen = []
    async with asyncio.timeout(PATIENCE):
        while raw := await process.stderr.readline():
            seen.append(raw.decode())
            if found := re.search(pattern, seen[-1]):
                return found
    raise AssertionError(f"no line with {pattern} in {''.join(seen)}")


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


async def test_it_says_what_it_waits_for_and_stops_at_once_while_the_broker_is_away(
    tmp_path: Path, nobody: str
) -> None:
    async with running(tmp_path, "--tier", "1s", "--tier", "5s", AMQP_URL=nobody, SIGNING_SECRET=SECRET) as process:
        children = {}
        for _ in range(2):
            found = await line_of(process, r"child\.started slot=tier:(\S+) pid=(\d+)")
            children[found[1]] = int(found[2])
        waits = [await line_of(process, r"child\.waits slot=tier:(\S+).*sentence=(.*)") for _ in range(2)]
        assert {wait[1] for wait in waits} == {"1s", "5s"}
        assert "hidden" not in waits[0][2]
        assert title(process.pid) == "notifier: master"
        assert {title(pid) for pid in children.values()} == {"notifier: tier 1s", "notifier: tier 5s"}
        async with contextlib.AsyncExitStack() as stack:
            endings = [await stack.enter_async_context(watching(pid)) for pid in children.values()]
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
                await asyncio.gather(*(ended.wait() for ended in endings))


async def test_what_lies_in_the_working_directory_does_not_stand_in_for_a_module(tmp_path: Path, nobody: str) -> None:
    (tmp_path / "uvloop.py").write_text("raise SystemExit('an impostor')")
    (tmp_path / "aio_pika.py").write_text("raise SystemExit('an impostor')")
    async with running(tmp_path, "--tier", "1s", AMQP_URL=nobody, SIGNING_SECRET=SECRET) as process:
        await line_of(process, r"child\.waits")


async def test_a_callback_of_the_users_own_is_found_in_the_working_directory(tmp_path: Path, nobody: str) -> None:
    (tmp_path / "shop.py").write_text("async def call(notification):\n    raise AssertionError\n")
    async with running(tmp_path, "--tier", "1s", AMQP_URL=nobody, CALLBACK="shop:call") as process:
        await line_of(process, r"child\.waits")


async def test_a_callback_that_does_not_exist_ends_the_service_with_78(tmp_path: Path, nobody: str) -> None:
    async with running(tmp_path, AMQP_URL=nobody, CALLBACK="nowhere:call") as process:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            said = (await process.stderr.read()).decode()
            assert await process.wait() == 78
        assert len([line for line in said.splitlines() if line.startswith("notifier: ") and "nowhere" in line]) == 1


def test_the_master_imports_nothing_heavy() -> None:
    code = "import sys, notifier.cli.run; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert {"notifier.supervision.master", "notifier.settings"} <= loaded
    assert loaded.isdisjoint({"aio_pika", "aiormq", "aiohttp", "rich", "uvloop", "sqlalchemy", "pydantic_settings"})
