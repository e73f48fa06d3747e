"""The figures of the HTTP API's benchmark: rates, and whether a target was met."""

from __future__ import annotations

import json

import pytest

from benchmarks.api_figures import Accepted, ApiFigures, rows, summary
from benchmarks.errors import BenchmarkFailed


def accepted(count: int, seconds: float) -> Accepted:
    return Accepted(seconds, [f"id-{n}" for n in range(count)], [1.0, 2.0, 3.0], behind=5, drained_s=0.5)


@pytest.mark.parametrize(
    ("many", "one", "verdicts"),
    [(2000, 800, ["met", "met"]), (1999, 800, ["missed", "met"]), (2000, 799, ["met", "missed"])],
)
def test_a_target_is_met_from_its_very_value_on(many: int, one: int, verdicts: list[str]) -> None:
    figures = ApiFigures(accepted(many, 2.0), accepted(one, 2.0), 80.0, 0.01)
    assert rows(figures)[3][1:] == verdicts
    told = summary(figures)
    assert [told["many"]["met"], told["one"]["met"]] == [verdict == "met" for verdict in verdicts]


def test_every_row_has_a_cell_for_each_way_and_the_summary_no_ids() -> None:
    figures = ApiFigures(accepted(10, 2.0), accepted(10, 2.0), 80.0, 0.01)
    assert {len(row) for row in rows(figures)} == {3}
    assert "id-1" not in json.dumps(summary(figures))


def test_a_rate_needs_time() -> None:
    with pytest.raises(BenchmarkFailed, match="time"):
        _ = accepted(1, 0.0).per_s
