"""The figures of a heartbeat: counts, lateness of the last minute, rate of the last ten seconds."""

from __future__ import annotations

import pytest

from notifier.delivery.tally import EDGES, REMEMBERED, Tally


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_happened_yet() -> None:
    assert Tally(Clock()).read() == {
        "late_p50_ms": None, "late_p99_ms": None, "attempts": 0, "completed": 0, "failed": 0, "held": 0,
        "poisoned": 0, "clock_errors": 0, "rate": 0.0, "completed_rate": 0.0, "failed_rate": 0.0,
        "lateness": {"buckets": [[edge, 0] for edge in (*EDGES, None)], "sum_ms": 0.0},
    }  # fmt: skip


def test_every_lateness_is_counted_in_the_bucket_whose_edge_it_does_not_pass() -> None:
    tally = Tally(Clock())
    for late in (0.0, 5.0, 5.1, 60_000.0, 60_000.5):
        tally.attempted(late, acknowledged=True)
    read = tally.read()["lateness"]
    assert [bucket for bucket in read["buckets"] if bucket[1]] == [[5, 2], [10, 1], [60_000, 1], [None, 1]]
    assert read["sum_ms"] == pytest.approx(120_010.6)


def test_the_rate_is_that_of_the_acknowledged_and_the_failed_together() -> None:
    clock = Clock()
    tally = Tally(clock)
    for acknowledged in (True, True, True, False):
        tally.attempted(None, acknowledged=acknowledged)
    clock.now += 2
    read = tally.read()
    assert (read["rate"], read["completed_rate"], read["failed_rate"]) == (2.0, 1.5, 0.5)


@pytest.mark.parametrize(
    ("late", "p50", "p99"),
    [([7.0], 7.0, 7.0), ([1.0, 2.0], 1.0, 2.0), ([float(n) for n in range(1, 101)], 50.0, 99.0)],
    ids=["one", "two", "hundred"],
)
def test_quantiles_are_values_that_occurred(late: list[float], p50: float, p99: float) -> None:
    tally = Tally(Clock())
    for value in reversed(late):
        tally.attempted(value, acknowledged=True)
    read = tally.read()
    assert (read["late_p50_ms"], read["late_p99_ms"]) == (p50, p99)


def test_attempts_without_a_due_moment_are_counted_and_have_no_lateness() -> None:
    tally = Tally(Clock())
    tally.attempted(None, acknowledged=True)
    tally.attempted(3.0, acknowledged=False)
    read = tally.read()
    assert (read["attempts"], read["completed"], read["failed"], read["late_p50_ms"]) == (2, 1, 1, 3.0)


def test_lateness_older_than_a_minute_and_beyond_the_bound_is_forgotten() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.attempted(9999.0, acknowledged=True)
    clock.now += 61
    for _ in range(3):
        tally.attempted(1.0, acknowledged=True)
    assert tally.read()["late_p99_ms"] == 1.0
    for _ in range(REMEMBERED):
        tally.attempted(2.0, acknowledged=True)
    assert tally.read()["late_p50_ms"] == 2.0
    assert tally.read()["attempts"] == REMEMBERED + 4


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    clock = Clock()
    tally = Tally(clock)
    for second in range(30):
        clock.now += 1
        for _ in range(20 if second < 15 else 5):
            tally.attempted(None, acknowledged=True)
        rate = tally.read()["rate"]
        if second == 14:
            assert rate == 20.0
    assert rate == 5.0
