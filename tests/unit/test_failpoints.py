"""Fail points: nothing happens unless a test armed one, and then the process dies at the arrival that it named."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notifier.delivery.failpoints import VARIABLE, ArmedFailPoints, FailPoints, fail_points

_REACHING = """
import asyncio, sys
from pathlib import Path
from notifier.delivery.failpoints import ArmedFailPoints
async def reach(directory, point, times):
    points = ArmedFailPoints(Path(directory), "tier:1s")
    for number in range(times):
        print(number, flush=True)
        await points.reach(point)
        await asyncio.sleep(0.2 if point == "during-callback" else 0)
asyncio.run(reach(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def reaching(directory: Path, point: str, times: int) -> tuple[int, list[str]]:
    """Exit code and what it counted, of a process that reaches a point so often."""
    done = subprocess.run(
        [sys.executable, "-c", _REACHING, str(directory), point, str(times)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.split()


def test_without_the_variable_there_are_points_at_which_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert type(fail_points("tier:1s")) is FailPoints


def test_with_the_variable_they_are_those_of_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert type(fail_points("tier:1s")) is ArmedFailPoints


@pytest.mark.parametrize("point", ["before-callback", "during-callback"])
def test_the_process_dies_at_the_arrival_that_is_named_and_leaves_the_moment(tmp_path: Path, point: str) -> None:
    (tmp_path / f"tier:1s.{point}").write_text("3")
    before = time.time()
    assert reaching(tmp_path, point, 5) == (-signal.SIGKILL, ["0", "1", "2"])
    assert before < float((tmp_path / f"tier:1s.{point}.fired").read_text()) < time.time()
    assert not (tmp_path / f"tier:1s.{point}").exists()


@pytest.mark.parametrize("armed", ["tier:2s.before-ack", "tier:1s.before-fact"])
def test_what_is_armed_for_another_process_or_point_is_none_of_its_business(tmp_path: Path, armed: str) -> None:
    (tmp_path / armed).write_text("1")
    assert reaching(tmp_path, "before-ack", 2) == (0, ["0", "1"])
