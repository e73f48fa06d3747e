"""The arithmetic of the benchmarks: from the receiver's log to figures and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from benchmarks import machine, table
from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import (
    CLOCK_GRAIN,
    Arrival,
    Count,
    Spread,
    count,
    lateness_ms,
    middle_rate,
    percentile,
    rate_of,
    ratios,
)
from benchmarks.load import items
from benchmarks.run import Figures

FIGURES = Figures(
    enqueue_per_s=3000.0,
    enqueue_whole_per_s=1500.0,
    delivered_per_s=1000.0,
    backlog_cpu_ms=0.5,
    steady_cpu_ms=0.9,
    late_p50_ms=2.0,
    late_p99_ms=12.0,
    late_max_ms=30.0,
    worker_pss_mb=38.0,
    master_pss_mb=24.0,
    broker_cpu_ms=None,
    others_share=0.01,
)


def arrivals(*moments: tuple[float, str]) -> list[Arrival]:
    return [Arrival(at, name, 1) for at, name in moments]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1770000000.123 ntf_1 1", Arrival(1770000000.123, "ntf_1", 1)),
        ("1770000000.000 a-b_C 12", Arrival(1770000000.0, "a-b_C", 12)),
        ("1770000000.999 x -", Arrival(1770000000.999, "x", None)),
    ],
)
def test_a_line_of_the_log_is_an_arrival(line: str, expected: Arrival) -> None:
    assert Arrival.parse(line) == expected


@pytest.mark.parametrize("line", ["", "1770000000.123 ntf_1", "1770000000.123 - 1", "now ntf_1 1", "1.0 ntf_1 1 2"])
def test_a_line_that_is_no_arrival_fails_the_run_and_is_shown(line: str) -> None:
    with pytest.raises(BenchmarkFailed) as failed:
        Arrival.parse(line)
    assert repr(line) in str(failed.value)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.5, 7.0),
        ([7.0], 1.0, 7.0),
        ([1, 2, 3, 4], 0.5, 2),
        ([4, 3, 2, 1], 0.5, 2),
        ([1, 2, 3], 0.5, 2),
        ([1, 2, 3, 4], 0.51, 3),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 0.01, 1),
        (range(1, 101), 1.0, 100),
        (range(1, 4001), 0.99, 3960),
    ],
)
def test_a_percentile_is_the_least_value_that_its_share_does_not_exceed(
    values: Sequence[float], share: float, expected: float
) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.01)])
def test_a_percentile_of_nothing_is_refused(values: Sequence[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


@pytest.mark.parametrize(
    ("sent", "due", "arrived", "expected"),
    [
        pytest.param(["a", "b"], {}, [(1, "a"), (2, "b")], Count((), (), (), ()), id="all right"),
        pytest.param(["a", "b"], {}, [(2, "b"), (1, "a")], Count((), (), (), ()), id="order plays no part"),
        pytest.param(["a", "b"], {}, [(1, "a")], Count(("b",), (), (), ()), id="lost"),
        pytest.param(["a"], {}, [(1, "a"), (2, "a")], Count((), ("a",), (), ()), id="doubled"),
        pytest.param(["a"], {}, [(1, "a")] * 3, Count((), ("a",), (), ()), id="three times"),
        pytest.param(["a"], {}, [(1, "a"), (2, "x")], Count((), (), ("x",), ()), id="foreign"),
        pytest.param(["a", "b"], {}, [(1, "a"), (2, "a")], Count(("b",), ("a",), (), ()), id="right in number only"),
        pytest.param(["a"], {"a": 5.0}, [(5.0, "a")], Count((), (), (), ()), id="on time"),
        pytest.param(["a"], {"a": 5.0}, [(4.9, "a")], Count((), (), (), ("a",)), id="early"),
        pytest.param(["a"], {"a": 5.0}, [(5.0 - CLOCK_GRAIN / 2, "a")], Count((), (), (), ()), id="within the grain"),
        pytest.param(["a"], {"a": 5.0}, [(5.0 - CLOCK_GRAIN * 2, "a")], Count((), (), (), ("a",)), id="beyond it"),
        pytest.param(["a", "b"], {"b": 5.0}, [(1, "a"), (5, "b")], Count((), (), (), ()), id="due moment unknown"),
        pytest.param([], {}, [], Count((), (), (), ()), id="nothing"),
    ],
)
def test_what_was_sent_is_compared_with_what_arrived(
    sent: Sequence[str], due: Mapping[str, float], arrived: Sequence[tuple[float, str]], expected: Count
) -> None:
    counted = count(sent, due, arrivals(*arrived))
    assert counted == expected
    assert (counted.wrong is None) == (expected == Count((), (), (), ()))


def test_what_is_wrong_is_told_with_numbers_and_examples() -> None:
    wrong = Count(("a", "b", "c", "d"), ("e",), (), ("f",)).wrong
    assert wrong == (
        "4 lost (such as a, b, c), 1 arrived more than once (such as e), 1 arrived before the due moment (such as f)"
    )


@pytest.mark.parametrize(
    ("moments", "expected"),
    [([0.0, 1.0], 1.0), ([10.0, 10.5, 11.0], 2.0), ([3.0, 1.0, 2.0], 1.0), ([0.0, 0.0, 0.0, 0.5], 6.0)],
)
def test_a_rate_counts_from_the_first_arrival_to_the_last(moments: Sequence[float], expected: float) -> None:
    assert rate_of([Arrival(at, str(at), 1) for at in moments]) == pytest.approx(expected)


@pytest.mark.parametrize("moments", [[], [1.0], [1.0, 1.0]])
def test_a_rate_needs_two_moments(moments: Sequence[float]) -> None:
    with pytest.raises(BenchmarkFailed, match="two moments"):
        rate_of([Arrival(at, "a", 1) for at in moments])


@pytest.mark.parametrize(
    ("seen", "total", "expected"),
    [
        pytest.param([(n / 10, n) for n in range(101)], 100, 10.0, id="even"),
        pytest.param([(0, 0), (9, 10), (10, 50), (11, 90), (99, 100)], 100, 40.0, id="slow ends do not count"),
        pytest.param([(0, 30), (2, 95), (3, 100)], 100, 32.5, id="in lumps, the numbers seen are used"),
    ],
)
def test_the_rate_of_the_middle_leaves_the_ends_out(
    seen: Sequence[tuple[float, int]], total: int, expected: float
) -> None:
    assert middle_rate(seen, total) == pytest.approx(expected)


@pytest.mark.parametrize("seen", [[], [(1.0, 100)], [(1.0, 10), (2.0, 80)]])
def test_the_rate_of_the_middle_needs_a_middle(seen: Sequence[tuple[float, int]]) -> None:
    with pytest.raises(BenchmarkFailed, match="middle"):
        middle_rate(seen, 100)


def test_lateness_is_told_where_the_due_moment_is_known_and_is_never_negative() -> None:
    arrived = arrivals((10.25, "a"), (4.999, "b"), (3.0, "c"))
    assert lateness_ms({"a": 10.0, "b": 5.0}, arrived) == pytest.approx([250.0, 0.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], Spread(3.0, 3.0, 3.0)),
        ([3.0, 1.0, 2.0], Spread(2.0, 1.0, 3.0)),
        ([4.0, 1.0, 2.0, 3.0], Spread(2.5, 1.0, 4.0)),
    ],
)
def test_a_spread_is_median_least_and_most(values: Sequence[float], expected: Spread) -> None:
    assert Spread.of(values) == expected


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratios([1.0, 3.0, 5.0], [2.0, 3.0, 0.0]) == [0.5, 1.0, None]


def test_both_sides_are_sent_the_same_notifications_under_ids_of_their_own() -> None:
    ours, theirs = items("a", 250, "http://127.0.0.1/"), items("b", 250, "http://127.0.0.1/")
    assert [item.payload for item in ours] == [item.payload for item in theirs]
    assert len({item.id for item in [*ours, *theirs]}) == 500
    assert len({item.merchant for item in ours}) == 100


def test_the_table_shows_spread_and_ratios_and_a_dash_for_what_is_not_known() -> None:
    twice = replace(FIGURES, delivered_per_s=2000.0, master_pss_mb=None)
    half = replace(FIGURES, delivered_per_s=500.0)
    shown = table.table({"ours": [FIGURES, half], "theirs": [twice, twice]})
    rows = {line[:34].strip(): line[34:] for line in shown.splitlines()}
    assert rows["delivered/s, backlog"].split() == ["750", "(500-1,000)", "2,000", "(2,000-2,000)", "0.50", "0.25"]
    assert rows["memory MB (PSS), master"].split() == ["24.0", "(24.0-24.0)", "-", "-"]
    assert rows["broker CPU ms per notification"].split() == ["-", "-", "-"]


def test_the_table_of_one_side_has_no_ratios() -> None:
    shown = table.table({"ours": [FIGURES]})
    assert "pair by pair" not in shown
    assert table.summary({"ours": [FIGURES]})["ratios"] is None


def test_the_summary_holds_every_figure_of_the_table() -> None:
    summary = table.summary({"ours": [FIGURES], "theirs": [replace(FIGURES, late_p99_ms=6.0)]})
    assert summary["sides"]["ours"]["late_p99_ms"] == {"median": 12.0, "least": 12.0, "most": 12.0}
    assert summary["ratios"]["late_p99_ms"] == [2.0]
    assert set(summary["ratios"]) == {row.name for row in table.ROWS}


@pytest.mark.parametrize(
    ("busy", "load", "warned"), [(0.0, 0.0, False), (0.1, 0.5, False), (0.5, 0.0, True), (0.0, 3.1, True)]
)
def test_a_busy_machine_is_warned_about(busy: float, load: float, warned: bool) -> None:
    assert (machine.Quiet(busy, load).warning is not None) == warned


@pytest.mark.parametrize(("share", "warned"), [(0.0, False), (0.1, False), (0.11, True)])
def test_others_that_worked_meanwhile_are_warned_about(share: float, warned: bool) -> None:
    assert (machine.disturbance(share) is not None) == warned
