"""How many come a second, of late."""

from __future__ import annotations

import pytest

from notifier.delivery.inflow import FADES, Inflow


def test_where_none_came_the_rate_is_nought() -> None:
    assert Inflow().rate(1000.0) == 0.0


@pytest.mark.parametrize("rate", [1, 20, 400])
def test_what_comes_evenly_is_counted_as_it_comes(rate: int) -> None:
    inflow, now = Inflow(), 1000.0
    for _ in range(int(10 * FADES * rate)):
        now += 1 / rate
        inflow.count(now)
    assert inflow.rate(now) == pytest.approx(rate, rel=0.3 if rate == 1 else 0.02)


def test_a_burst_counts_at_once_and_fades() -> None:
    inflow = Inflow()
    for _ in range(200):
        inflow.count(1000.0)
    assert inflow.rate(1000.0) == 200 / FADES
    assert inflow.rate(1000.0 + 10 * FADES) < 0.01
