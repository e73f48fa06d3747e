"""The report: a verdict becomes a row, rows become a table, the table gets into its page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.faults.check import BUGS, found
from tests.faults.report import BEGIN, END, Row, as_json, between_markers, markdown, merged, read
from tests.faults.table import FAULTS
from tests.faults.verdict import Verdict


def row(*violations: str) -> Row:
    return Row.of("the fault", 3, Verdict(1200, 1, 2, 3, [4.0, 1.0, 2.0], violations, held=4))


def test_a_row_has_the_figures_of_its_verdict() -> None:
    made = row()
    assert (made.sent, made.lost, made.early, made.duplicated) == (1200, 1, 2, 3)
    assert (made.recover_p50, made.recover_max) == (2.0, 4.0)
    assert made.good


def test_of_many_violations_a_row_names_some_of_each_kind_and_counts_the_others() -> None:
    made = row(*(f"lost: {number}" for number in range(25)), "untrue: n")
    assert not made.good
    assert made.violations == (*(f"lost: {number}" for number in range(5)), "lost: … and 20 more", "untrue: n")


def test_the_table_says_which_fault_failed() -> None:
    lines = markdown([row(), row("lost: n"), Row.unjudged("other", "it did not bite")]).splitlines()
    assert [line.endswith("| FAILED |") for line in lines[-3:]] == [False, True, True]
    assert lines[-3] == "| the fault | 3 | 1,200 | 1 | 2 | 3 | 4 | 2.0 | 4.0 |  |"


def test_the_table_says_what_was_struck_again() -> None:
    again = Row.of("the fault", 10, Verdict(1200, 0, 0, 3, [4.0]), 2)
    assert markdown([again]).splitlines()[-1].endswith("| 4.0 | 4.0 | 2 struck again |")
    assert markdown([replace(again, violations=("lost: n",))]).splitlines()[-1].endswith("| FAILED |")


def test_rows_of_faults_that_were_not_run_are_kept_in_the_order_of_the_faults() -> None:
    old = [replace(row(), fault=name, sent=1) for name in ("b", "gone", "a")]
    kept = read(json.dumps(as_json(old)))
    assert kept == old
    assert [(each.fault, each.sent) for each in merged(kept, [replace(row(), fault="b", sent=2)], ["a", "b"])] == [
        ("a", 1),
        ("b", 2),
    ]


def test_the_table_replaces_the_one_before_it_and_nothing_else() -> None:
    page = f"text\n{BEGIN}\nold\n{END}\nmore\n"
    assert between_markers(page, "new") == f"text\n{BEGIN}\nnew\n{END}\nmore\n"
    with pytest.raises(ValueError, match="no place for the table"):
        between_markers("text", "new")


def test_a_planted_bug_counts_as_found_only_by_its_own_violation() -> None:
    bug = BUGS[0]
    assert found(bug, as_json([row(f"{bug.violation}: n")]))
    assert not found(bug, as_json([row("strange: n")]))
    assert not found(bug, as_json([Row.unjudged("other", f"{bug.violation}: no")]))


def test_every_planted_bug_names_a_fault_of_the_table() -> None:
    assert all(any(bug.fault in fault.name for fault in FAULTS) for bug in BUGS)
