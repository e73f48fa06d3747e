"""Whose turn it is to be a breaker's probe."""

from __future__ import annotations

import pytest

from notifier.domain.probing import TURN, failed, is_round_over, waits


@pytest.mark.parametrize(("probes", "new", "old"), [(0, 0.0, TURN), (1, TURN, 0.0), (2, 0.0, TURN), (7, TURN, 0.0)])
def test_the_kinds_take_turns_and_the_new_ones_are_first(probes: int, new: float, old: float) -> None:
    assert (waits(probes, new=True), waits(probes, new=False)) == (new, old)


def test_a_pause_ends_with_one_of_each_kind() -> None:
    assert [is_round_over(number) for number in (1, 2, 3, 4)] == [False, True, False, True]


@pytest.mark.parametrize(
    ("told", "number"),
    [({"probes": 3}, 3), ({"probes": -1}, 0), ({"probes": "3"}, 0), ({"state": "open"}, 0), (None, 0), (True, 0)],
)
def test_a_breaker_that_does_not_say_how_many_failed_has_the_first_probe_before_it(told: object, number: int) -> None:
    assert failed(told) == number
