"""Processes that keep ending, or hang, as a real master shows them, are what operators are told of."""

from __future__ import annotations

import os
import signal
import time

import pytest
from toys.stage import NEVER, Stage

from notifier.agent import happenings
from notifier.domain.operations import Event
from notifier.sections import Operations
from notifier.supervision import restart
from notifier.supervision.departure import Limits

WATCHFUL = Limits(start=NEVER, drain=NEVER, term=NEVER, quick=NEVER, warn=NEVER, silence=3, unread=NEVER)


async def test_a_process_that_keeps_ending_is_a_trouble_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(restart, "LONGEST_DELAY", 0.02)
    async with Stage("exits 3", "good") as stage:
        await stage.event("child.degraded")
        (trouble,) = happenings.troubles(stage.master.status(), {}, Operations(), int(time.time() * 1000))
        assert (trouble.event, trouble.subject, trouble.patience) == (Event.SLOT_DEGRADED, "toy:0", 0.0)
        assert "exit code 3" in trouble.sentence
        assert list(happenings.hung(stage.master.status())) == []


async def test_a_process_that_hung_happened_once_it_is_back() -> None:
    async with Stage("operable", "operable", limits=WATCHFUL) as stage:
        await stage.ready()
        assert list(happenings.hung(stage.master.status())) == []
        os.kill(stage.pids[0], signal.SIGSTOP)
        await stage.event("child.ready", slot="toy:0", epoch=2)
        (hung,) = happenings.hung(stage.master.status())
        assert (hung.event, hung.subject) == (Event.SLOT_DEGRADED, "toy:0 hung")
        assert "gave no sign of life for 3 s" in hung.sentence
        assert [each.id for each in happenings.hung(stage.master.status())] == [hung.id]
