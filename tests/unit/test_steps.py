"""A wall clock that was set is noticed, and not believed until what it stamped before is through."""

from __future__ import annotations

import pytest

from notifier.delivery.steps import STEP, Steps, steady


class Clocks:
    """A wall clock and a steady one."""

    def __init__(self) -> None:
        self.wall, self.even = 1_700_000_000.0, 50.0

    def pass_(self, seconds: float) -> None:
        """Both go on."""
        self.wall += seconds
        self.even += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def steps(clocks: Clocks) -> Steps:
    return Steps(61, lambda: clocks.wall, lambda: clocks.even)


def test_a_clock_that_goes_on_is_believed(clocks: Clocks, steps: Steps) -> None:
    for _ in range(5):
        clocks.pass_(3600)
        assert steps.believed()


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, STEP, -STEP])
def test_one_that_was_set_is_not_believed_for_a_while(clocks: Clocks, steps: Steps, seconds: float) -> None:
    clocks.wall += seconds
    assert not steps.believed()
    clocks.pass_(60.9)
    assert not steps.believed()
    clocks.pass_(0.2)
    assert steps.believed()


def test_what_is_set_right_again_was_set_twice(clocks: Clocks, steps: Steps) -> None:
    clocks.wall += 3600
    assert not steps.believed()
    clocks.pass_(60)
    clocks.wall -= 3600
    assert not steps.believed()
    clocks.pass_(60)
    assert not steps.believed()


def test_a_clock_that_is_slewed_is_believed(clocks: Clocks, steps: Steps) -> None:
    clocks.wall += STEP / 2
    assert steps.believed()


def test_the_steady_clock_only_goes_on() -> None:
    before = steady()
    assert steady() >= before
