"""The verdict on notifications of merchants that fail, hang or cannot be found, and on clocks that were wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.of_poison import in_flight, standstill
from tests.faults.test_verdict import STRUCK, came, judged, sent
from tests.faults.verdict import COMPLETED, Told, Window, outstanding, tally

HOLDABLE = frozenset({"exhausted", "held"})
FAILS: dict[str, Any] = {"attempts": 3, "may_end": HOLDABLE}
WRONG = "Message timestamp too old"


def test_what_is_held_and_may_be_is_not_lost_and_counted() -> None:
    verdict = judged([sent(**FAILS)], [came(1000)], status={"n": "held"})
    assert verdict.good
    assert (verdict.lost, verdict.held) == (0, 1)


def test_nobody_waits_for_what_may_be_held() -> None:
    assert outstanding([sent(**FAILS), sent("m", attempts=2)], [came(1000), came(1000, name="m")]) == 1


@pytest.mark.parametrize(
    ("handed_in", "status"),
    [
        pytest.param(sent(), "held", id="held, and must not be"),
        pytest.param(sent(**FAILS), "held without payload", id="held, and cannot be sent any more"),
        pytest.param(sent(**FAILS), "completed", id="acknowledged by who never acknowledges"),
        pytest.param(sent(**FAILS), "exhausted", id="exhausted before all of its attempts"),
        pytest.param(sent(attempts=0, may_end=frozenset({"poisoned"})), "exhausted", id="not the poison that it is"),
    ],
)
def test_what_ends_otherwise_than_it_may_is_lost(handed_in: Any, status: str) -> None:
    arrivals = [] if handed_in.attempts == 0 else [came(1000)]
    assert tally(judged([handed_in], arrivals, status={"n": status})).keys() == {"lost"}


def test_a_connection_that_the_merchant_breaks_may_be_tried_twice_and_not_three_times() -> None:
    breaks, rows = sent(**FAILS, breaks=True), [Told("n", 1, 1000, answered=False)]
    assert judged([breaks], [came(1000), came(1001)], rows=rows, status={"n": "held"}).good
    verdict = judged([breaks], [came(1000), came(1001), came(1002)], rows=rows, status={"n": "held"})
    assert tally(verdict) == {"doubled": 1, "untrue": 1}


def test_an_attempt_that_reached_nobody_comes_before_one_that_did() -> None:
    found_late = sent(attempts=0, may_end=COMPLETED)
    rows = [Told("n", 1, 1000, answered=False), Told("n", 2, 3000)]
    assert judged([found_late], [came(3000, 2)], rows=rows).good
    assert tally(judged([found_late], [came(3000, 2)], rows=rows[1:])) == {"order": 1}
    assert tally(judged([found_late], [came(3000, 2)], rows=[replace(rows[0], answered=True), rows[1]])) == {
        "order": 1, "untrue": 1,
    }  # fmt: skip


def test_a_signature_of_a_wrong_clock_is_excused_while_the_clock_is_wrong_and_no_other_fault_of_it() -> None:
    during = Window(STRUCK, STRUCK, STRUCK + 5000, shifted=True)
    at = sent(at=STRUCK + 2000)
    assert judged([at], [came(STRUCK + 3000, fault=WRONG)], windows=[during]).good
    assert tally(judged([at], [came(STRUCK + 3000, fault="No match")], windows=[during])) == {"strange": 1}
    assert tally(judged([at], [came(STRUCK + 3000, fault=WRONG)], windows=[replace(during, shifted=False)])) == {
        "strange": 1
    }
    later = sent(at=STRUCK + 8000)
    assert tally(judged([later], [came(STRUCK + 9000, fault=WRONG)], windows=[during])) == {"strange": 1}


def test_in_flight_beside_a_killer_is_what_was_accepted_before_a_death_and_called_after_it() -> None:
    before, between, after, never = (sent(name, at=at) for name, at in zip("abcd", (0, 0, 3000, 0), strict=True))
    twice, refused = sent("e", attempts=2), sent("f", confirmed=None)
    arrivals = [
        came(900, name="a"),
        came(1500, name="b"),
        came(4000, name="c"),
        came(900, name="e"),
        came(2900, 2, name="e"),
    ]
    assert in_flight([1000.0, 2000.0], [before, between, after, never, twice, refused], arrivals) == 3
    assert in_flight([1000.0], [before, after], arrivals) == 0


def test_a_standstill_is_the_sum_of_the_long_gaps() -> None:
    assert standstill([100, 900, 4000, 4100], 0, 6000) == 3100 + 1900
    assert standstill([], 0, 900) == 0
