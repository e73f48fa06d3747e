"""For how long something has gone on without a break."""

from __future__ import annotations

from notifier.agent.unbroken import BREAK, DRIFT, Unbroken


class Stage:
    """Two clocks, and what goes on by them."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.set_by = 0.0
        self.unbroken = Unbroken(lambda: self.now + self.set_by, lambda: self.now)

    def signs(self, number: int, apart: float = 10.0) -> float:
        for _ in range(number):
            self.unbroken.goes_on()
            self.now += apart
        self.unbroken.goes_on()
        return self.unbroken.seconds


def test_it_counts_from_the_first_sign_on() -> None:
    stage = Stage()
    assert stage.unbroken.seconds == 0
    assert stage.signs(6) == 60


def test_a_break_begins_anew_and_while_it_lasts_there_is_nothing() -> None:
    stage = Stage()
    stage.signs(6)
    stage.now += BREAK + 1
    assert stage.unbroken.seconds == 0
    assert stage.signs(2) == 20


def test_a_clock_that_was_set_begins_anew_and_small_steps_of_it_change_nothing() -> None:
    for by in (86_400.0, -86_400.0):
        stage = Stage()
        stage.signs(6)
        stage.set_by = by
        assert stage.unbroken.seconds == 0
        assert stage.signs(3) == 30
        stage.set_by += DRIFT / 2
        assert stage.unbroken.seconds == 30
