"""A master that is killed at any moment leaves no child behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from pathlib import Path

import pytest
from toys.stage import PATIENCE, alive, watching

MASTER = str(Path(__file__).parent / "toys" / "master.py")


def marked(mark: str) -> list[int]:
    """All processes with this mark in their environment, also those between fork and exec."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if mark.encode() in (entry / "environ").read_bytes() and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


async def killed_after(lines: int, mark: str) -> None:
    """Start a service with children of several kinds, kill its master after so many lines that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, MASTER, "0.5", "good", "operable", "never-ready", "operable go", "orphan yes",
        env=os.environ | {"TOY_MARK": mark}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        for _ in range(lines):
            assert await process.stderr.readline()
    process.kill()
    await process.communicate()  # ends with the last process that holds its stderr


async def no_orphans_after(kills: int) -> None:
    for number in range(kills):
        mark = f"TOY_MARK={uuid.uuid4()}"
        async with asyncio.timeout(PATIENCE):
            await killed_after(number % 8, mark.removeprefix("TOY_MARK="))
            while pids := await asyncio.to_thread(marked, mark):
                async with contextlib.AsyncExitStack() as stack:
                    with contextlib.suppress(ProcessLookupError):
                        endings = [await stack.enter_async_context(watching(pid)) for pid in pids]
                        await asyncio.gather(*(ended.wait() for ended in endings))


async def test_a_master_killed_at_ten_moments_leaves_no_orphan() -> None:
    await no_orphans_after(10)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_master_killed_at_a_hundred_moments_leaves_no_orphan() -> None:
    await no_orphans_after(100)
