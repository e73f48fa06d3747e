"""The arithmetic of the benchmarks: from the receiver's log to figures and table."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import control_figures, ledger, ledger_figures, machine, table
from benchmarks.control_figures import ControlFigures, rate_between, wrong_answer
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
from benchmarks.ledger_figures import LedgerFigures
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

CONTROL = ControlFigures(
    push_ms=[float(number) for number in range(1, 201)],
    ready_again_s=[0.5, 0.7, 1.6],
    tier_pss_mb=[33.0, 35.0, 44.9],
    master_pss_mb=[25.0, 40.0],
    delivered_per_s=299.4,
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
    assert (machine.Quiet(busy, load, machine.Disk("/tmp", 0.1, 0.2, 0.3)).warning is not None) == warned


@pytest.mark.parametrize(("longest", "warned"), [(12.0, False), (870.0, True)])
def test_a_disk_that_stands_still_by_itself_is_warned_about(longest: float, warned: bool) -> None:
    assert (machine.Disk("/var/tmp", 0.4, 6.0, longest).warning is not None) == warned


def test_a_disk_is_looked_at_where_the_runs_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    disk = asyncio.run(machine.disk(20, 0.001))
    assert disk.directory == str(tmp_path)
    assert 0 < disk.p50 <= disk.p99 <= disk.longest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("share", "warned"), [(0.0, False), (0.1, False), (0.11, True)])
def test_others_that_worked_meanwhile_are_warned_about(share: float, warned: bool) -> None:
    assert (machine.disturbance(share) is not None) == warned


def answered(*results: tuple[str, str], **rest: Any) -> dict[str, Any]:
    return {"slots": [{"slot": slot, "result": result} for slot, result in results], "saved": True, **rest}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(answered(("a", "applied"), ("b", "applied")), None, id="all right"),
        pytest.param(answered(("b", "applied"), ("a", "applied")), None, id="order plays no part"),
        pytest.param(answered(("a", "applied")), "b did not answer", id="one is missing"),
        pytest.param(answered(), "a did not answer, b did not answer", id="nobody"),
        pytest.param(answered(("a", "timeout"), ("b", "applied")), "a answered timeout", id="too late"),
        pytest.param(answered(("a", "applied"), ("b", "gone")), "b answered gone", id="gone"),
        pytest.param(
            answered(("a", "applied"), ("b", "applied"), ("c", "applied")),
            "c, which is not known, answered",
            id="foreign",
        ),
        pytest.param(
            {"slots": [{"slot": "a", "result": "applied"}, {"slot": "b", "result": "error", "error": "no"}]},
            "b answered no, the master could not keep it",
            id="with its sentence",
        ),
        pytest.param(
            answered(("a", "applied"), ("b", "applied"), saved=False), "the master could not keep it", id="not kept"
        ),
    ],
)
def test_a_push_counts_only_if_every_slot_applied_it_and_it_is_kept(
    answer: Mapping[str, Any], expected: str | None
) -> None:
    assert wrong_answer(["a", "b"], answer) == expected


@pytest.mark.parametrize(
    ("moments", "expected"), [([], 0.0), ([9.9, 10.0, 10.5, 11.9, 12.0], 1.5), ([10.0], 0.5), ([12.0], 0.0)]
)
def test_a_rate_between_two_moments_counts_what_arrived_between_them(moments: Sequence[float], expected: float) -> None:
    assert rate_between([Arrival(at, "a", 1) for at in moments], 10.0, 12.0) == expected


def test_a_rate_between_needs_two_moments_in_their_order() -> None:
    with pytest.raises(ValueError, match="two moments"):
        rate_between([], 10.0, 10.0)


def test_targets_stand_beside_the_control_lines_figures_and_what_missed_one_says_so() -> None:
    shown = table.aligned(control_figures.rows(CONTROL))
    rows = {line[:40].rstrip(): line[40:].split() for line in shown.splitlines()}
    assert rows == {
        "control line": ["median", "(min-max)", "target"],
        "push ms, of 200; the median counts": ["100.5", "(1.0-200.0)", "under", "10", "missed"],
        "push ms, p99": ["198.0", "-"],
        "delivered/s meanwhile": ["299", "-"],
        "kill -9 until ready, s, of 3": ["0.70", "(0.50-1.60)", "under", "1.5", "missed"],
        "memory MB (PSS), idle tier process, of 3": ["35.0", "(33.0-44.9)", "under", "45", "met"],
        "memory MB (PSS), idle master, of 2": ["32.5", "(25.0-40.0)", "under", "40", "missed"],
    }


@pytest.mark.parametrize(
    ("push_ms", "met"), [([9.9, 9.9, 500.0], True), ([1.0, 10.0, 10.0], False), ([0.1, 9.8, 10.0, 20.0], True)]
)
def test_pushes_are_judged_by_their_median(push_ms: Sequence[float], met: bool) -> None:
    assert control_figures.summary(replace(CONTROL, push_ms=push_ms))["figures"]["push_ms"]["met"] is met


def test_the_summary_of_the_control_line_holds_every_value_and_every_figure() -> None:
    summary = control_figures.summary(CONTROL)
    assert summary["values"]["ready_again_s"] == [0.5, 0.7, 1.6]
    assert summary["figures"]["ready_again_s"] == {
        "median": 0.7, "least": 0.5, "most": 1.6, "judged": 1.6, "target": 1.5, "met": False,
    }  # fmt: skip
    assert summary["figures"]["push_p99_ms"] == {"judged": 198.0, "target": None, "met": None}
    assert list(summary["figures"]) == [line.name for line in control_figures.lines(CONTROL)]


@pytest.mark.parametrize(("seconds", "verdict"), [(10.0, "met"), (10.1, "missed")])
def test_the_ledgers_rate_leaves_out_the_run_up_and_is_judged(seconds: float, verdict: str) -> None:
    figures = LedgerFigures(60_000, 50_000, seconds, cpu_s=6.0, bytes_each=550.0, others_share=0.0)
    assert ledger_figures.rows(figures)[1] == [
        "facts stored/s by the agent",
        f"{50_000 / seconds:,.0f}",
        "at least 5,000",
        verdict,
    ]
    assert ledger_figures.rows(figures)[3] == ["agent CPU ms per fact", "0.100", "", ""]
    assert ledger_figures.summary(figures)["met"] is (verdict == "met")


def test_a_ledgers_rate_needs_time_to_pass() -> None:
    with pytest.raises(BenchmarkFailed, match="needs time"):
        _ = LedgerFigures(1, 1, 0.0, 1.0, 1.0, 0.0).per_s


def test_the_facts_of_the_ledgers_benchmark_are_as_many_as_it_counts_with() -> None:
    sent = items("a", ledger.REFUSED, "http://127.0.0.1:1")
    told = [one for item in sent for one in ledger.facts_of(item, 1_795_255_200_000)]
    assert (len(told), sum(one.kind == "attempted" for one in told)) == (ledger._FACTS, ledger._ATTEMPTS)
