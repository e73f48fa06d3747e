"""Evidence that is kept: it is the same when it is read, and judged as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.judge_again import judged_again
from tests.faults.kept import file_of, keep, read
from tests.faults.table import FAULTS
from tests.faults.verdict import Arrival, Evidence, Sent, Told, Window

NAME = "broker: SIGSTOP 6 s, 25 s"


def evidence(*moments: float) -> Evidence:
    """Of one notification that came so often, far from the fault."""
    return Evidence(
        sent=[Sent("n", "prompt", 1, (1000, 2000), 0.0, 0.0, 5.0, may_end=frozenset({"completed", "held"}))],
        arrivals=[Arrival("n", 1, moment, "n", beside=2) for moment in moments],
        rows=[Told("n", 1, moment) for moment in moments],
        status={"n": "completed"},
        depths={"work": 0},
        windows=[Window(9000.0, 9500.0, 9900.0, handing=True, spans=((9000.0, 9100.0), (9400.0, 9500.0)))],
        poison=("a reason",),
    )


async def test_evidence_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    await keep(tmp_path, NAME, evidence(1000.0))
    assert file_of(tmp_path, NAME).name == "broker-sigstop-6-s-25-s.gz"
    assert read(file_of(tmp_path, NAME)) == (NAME, evidence(1000.0))


async def test_evidence_is_judged_again(tmp_path: Path) -> None:
    await keep(tmp_path, NAME, evidence(1000.0, 1500.0))
    said, good = judged_again(tmp_path)
    assert said[0] == f"{NAME}: FAILED: sent 1, lost 0, early 0, duplicated 1"
    assert [line.split(":")[0] for line in said[1:]] == ["    doubled", "    undrained"]
    assert not good


async def test_a_directory_that_cannot_be_written_costs_the_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await keep(tmp_path / "gone", NAME, evidence(1000.0))
    assert f"the evidence of {NAME} is not kept" in capsys.readouterr().err


def test_every_fault_has_a_file_of_its_own() -> None:
    assert len({file_of(Path(), fault.name) for fault in FAULTS}) == len(FAULTS)
