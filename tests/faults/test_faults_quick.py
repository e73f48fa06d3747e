"""A few of the faults, once each, on one broker and one service: `make faults` does all of them, ten times."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from notifier.broker.node import PrivateNode
from tests.faults import verdict as judging
from tests.faults.bout import bout
from tests.faults.broker import BrokerUnderTest
from tests.faults.field import Field, standing
from tests.faults.table import FAULTS

#: Notifications per second, on whatever else runs the machine.
_PER_SECOND = 40
#: One of a process, one of the line; no broker is booted again, which takes ten seconds.
QUICK = (
    "tier process: kill -9 before fact",
    "line: cut between publish and confirm",
)


@pytest.fixture(scope="module")
async def field(installed_server: None) -> AsyncIterator[Field]:
    """One for all of them."""
    async with (
        await PrivateNode.start(plugin=False) as node,
        standing(BrokerUnderTest(node), through_line=True, per_second=_PER_SECOND) as made,
    ):
        yield made


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", QUICK)
async def test_under_this_fault_every_promise_is_kept(field: Field, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    monkeypatch.setattr(judging, "IN_HAND_MS", 2000.0)  # beside other tests a process may wait so long for its turn
    verdict, _ = await bout(field, fault, repeats=1)
    assert verdict.violations == ()
    assert verdict.sent >= 2 * _PER_SECOND


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
