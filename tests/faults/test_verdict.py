"""The verdict on evidence made by hand: every violation is found, and nothing is one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.verdict import Arrival, Evidence, Sent, Told, Verdict, Window, judge, outstanding, tally

DELAYS = (1000, 2000, 2000)
#: When the fault of these cases struck, far from everything else unless a case says otherwise.
STRUCK = 50_000.0


def sent(name: str = "n", at: float = 0.0, attempts: int = 1, **other: Any) -> Sent:
    return replace(Sent(name, "prompt", attempts, DELAYS, began=at, enqueued_at=at, confirmed=at + 5), **other)


def came(moment: float, attempt: int = 1, name: str = "n", **other: Any) -> Arrival:
    return replace(Arrival(name, attempt, moment, name), **other)


def judged(
    handed_in: Sequence[Sent],
    arrivals: Sequence[Arrival],
    *,
    rows: Sequence[Told] | None = None,
    windows: Sequence[Window] = (Window(STRUCK, STRUCK, STRUCK + 2000),),
    depths: dict[str, int] | None = None,
    status: dict[str, str] | None = None,
) -> Verdict:
    """rows: what came, if nothing else is said; likewise everything is completed."""
    return judge(
        Evidence(
            sent=handed_in,
            arrivals=arrivals,
            rows=[Told(each.id, each.attempt, each.moment) for each in arrivals] if rows is None else rows,
            status={each.id: "completed" for each in handed_in} if status is None else status,
            depths=depths or {"work": 0},
            windows=windows,
        )
    )


GOOD = [
    pytest.param([sent()], [came(1000, beside=20)], id="one attempt, on time, with as many beside it as may be"),
    pytest.param([sent()], [came(999)], id="within the grain of the clocks"),
    pytest.param([sent(attempts=2)], [came(1003), came(3004, 2)], id="two attempts, on time"),
    pytest.param([sent(confirmed=None)], [came(1000)], id="unconfirmed, and it came"),
    pytest.param([sent(confirmed=None, enqueued_at=None)], [], id="never accepted"),
    pytest.param(
        [sent(at=STRUCK - 1400)], [came(STRUCK - 100), came(STRUCK + 900)], id="doubled, in hand at the fault"
    ),
    pytest.param(
        [sent(at=STRUCK - 1100, attempts=2)],
        [came(STRUCK - 50), came(STRUCK + 2000, 2), came(STRUCK + 2100, 2)],
        id="republished twice at the fault",
    ),
    pytest.param(
        [sent(at=STRUCK - 2600, attempts=2)],
        [came(STRUCK - 1600), came(STRUCK + 1980, 2), came(STRUCK + 2700, 2)],
        id="republished twice at the fault, long after it was called",
    ),
    pytest.param(
        [sent(at=STRUCK - 10, confirmed=STRUCK + 3000)],
        [came(STRUCK + 1000), came(STRUCK + 1001)],
        id="enqueued twice at the fault",
    ),
]

BAD = [
    pytest.param([sent()], [], "lost", id="never came"),
    pytest.param([sent(attempts=2)], [came(1000)], "lost", id="the second attempt never came"),
    pytest.param([sent()], [came(900)], "early", id="first attempt a tenth early"),
    pytest.param([sent(attempts=2)], [came(1000), came(2800, 2)], "early", id="second attempt a tenth early"),
    pytest.param([sent(attempts=2)], [came(3000, 2), came(3500)], "order", id="second before first"),
    pytest.param([sent()], [came(1000), came(1500)], "doubled", id="doubled without a fault"),
    pytest.param(
        [sent(at=STRUCK - 9000)],
        [came(STRUCK - 8000), came(STRUCK + 100)],
        "doubled",
        id="doubled after a fault long after it was settled",
    ),
    pytest.param(
        [sent(at=STRUCK - 5000, attempts=2)],
        [came(STRUCK - 4000), came(STRUCK - 1900, 2), came(STRUCK - 1800, 2)],
        "doubled",
        id="republished twice long before the fault",
    ),
    pytest.param([sent()], [came(1000), came(3000, 2)], "doubled", id="called again after it was acknowledged"),
    pytest.param([sent()], [came(1000), came(1000, name="x")], "strange", id="nobody sent it"),
    pytest.param([sent()], [came(1000, key="other")], "strange", id="body of another"),
    pytest.param([sent()], [came(1000, fault="wrong")], "strange", id="wrong signature"),
    pytest.param([sent()], [came(1000, beside=21)], "crowded", id="one more at once than the cap"),
]


@pytest.mark.parametrize(("handed_in", "arrivals"), GOOD)
def test_what_keeps_the_promises_is_no_violation(handed_in: list[Sent], arrivals: list[Arrival]) -> None:
    confirmed = {each.id: "completed" for each in handed_in}
    assert judged(handed_in, arrivals, status=confirmed).violations == ()


@pytest.mark.parametrize(("handed_in", "arrivals", "kind"), BAD)
def test_what_breaks_a_promise_is_named(handed_in: list[Sent], arrivals: list[Arrival], kind: str) -> None:
    verdict = judged(handed_in, arrivals)
    assert tally(verdict)[kind] == 1, verdict.violations
    assert not verdict.good


#: Two copies since the fault: the first attempt was called again, and both calls were followed by a second attempt.
COPIED = (came(STRUCK - 100), came(STRUCK + 900), came(STRUCK + 1950, 2), came(STRUCK + 2950, 2))


@pytest.mark.parametrize(
    ("further", "another", "kinds"),
    [
        pytest.param((4000, 5000), None, [], id="as many copies as before"),
        pytest.param((4000, 5000, 9000), None, ["doubled"], id="a third copy, and nothing was broken"),
        pytest.param((4000, 9000), (9000, 9000), [], id="a fault, and no further copy"),
        pytest.param((4000, 5000, 7000), (5100, 5100), [], id="a third copy, one was in hand at another fault"),
        pytest.param((4000, 5000, 7000), (7100, 7100), ["doubled"], id="a third copy, nothing in hand but itself"),
        pytest.param((4000, 7400, 9500), (5200, 5300), [], id="a third copy, the second was being published"),
        pytest.param((8000, 8900, 9500), (5400, 5500), [], id="a third copy, the first was published for long"),
    ],
)
def test_each_copy_more_needs_a_fault_of_its_own(
    further: Sequence[float], another: tuple[float, float] | None, kinds: list[str]
) -> None:
    arrivals = [*COPIED, *(came(STRUCK + moment, 3) for moment in further)]
    windows = [Window(STRUCK, STRUCK, STRUCK + 100)]
    if another is not None:
        windows.append(Window(STRUCK + another[0], STRUCK + another[1], STRUCK + another[1]))
    verdict = judged([sent(at=STRUCK - 1100, attempts=3)], arrivals, windows=windows)
    assert list(tally(verdict)) == kinds, verdict.violations


def test_a_copy_that_comes_to_be_after_another_has_ended_needs_a_fault_of_its_own() -> None:
    arrivals = [*COPIED[:3], came(STRUCK + 4000, 3), came(STRUCK + 9000, 3)]
    verdict = judged([sent(at=STRUCK - 1100, attempts=3)], arrivals)
    assert list(tally(verdict)) == ["doubled"]


def test_a_copy_that_reached_nobody_at_one_attempt_is_no_new_one_at_the_next() -> None:
    arrivals = [*COPIED[:3], came(STRUCK + 4000, 3), came(STRUCK + 9000, 3)]
    rows = [
        *(Told(each.id, each.attempt, each.moment) for each in arrivals),
        Told("n", 2, STRUCK + 2900, answered=False),
    ]
    windows = [Window(STRUCK, STRUCK, STRUCK + 100), Window(STRUCK + 2950, STRUCK + 2950, STRUCK + 3000)]
    assert judged([sent(at=STRUCK - 1100, attempts=3)], arrivals, rows=rows, windows=windows).good


@pytest.mark.parametrize(
    ("due", "handing", "kinds"),
    [
        pytest.param(-100.0, True, [], id="due when the broker died"),
        pytest.param(-100.0, False, ["doubled"], id="due when another thing died"),
        pytest.param(-5000.0, True, ["doubled"], id="due long before"),
    ],
)
def test_what_a_dying_broker_was_handing_on_may_be_in_two_queues(due: float, handing: bool, kinds: list[str]) -> None:
    window = Window(STRUCK, STRUCK, STRUCK + 8000, handing=handing)
    arrivals = [came(STRUCK + 9000), came(STRUCK + 9500)]
    verdict = judged([sent(at=STRUCK + due - 1000)], arrivals, windows=[window])
    assert list(tally(verdict)) == kinds


@pytest.mark.parametrize(
    ("began", "handing", "kinds"),
    [
        pytest.param(6000.0, True, [], id="while the broker that had died confirmed nothing yet"),
        pytest.param(6000.0, False, ["doubled"], id="after another fault had ended"),
        pytest.param(8600.0, True, ["doubled"], id="when it confirmed again"),
    ],
)
def test_a_publish_to_a_broker_that_has_no_leaders_yet_may_be_made_again(
    began: float, handing: bool, kinds: list[str]
) -> None:
    window = Window(STRUCK, STRUCK + 5000, STRUCK + 8000, handing=handing)
    handed_in = sent(at=STRUCK + began)
    verdict = judged([handed_in], [came(STRUCK + began + 2000), came(STRUCK + began + 2100)], windows=[window])
    assert list(tally(verdict)) == kinds


#: Two moments of a fault that lasts long, and all the time between them nothing is broken.
LONG = Window(
    STRUCK, STRUCK + 20_000, STRUCK + 21_000, spans=((STRUCK, STRUCK + 500), (STRUCK + 15_000, STRUCK + 16_000))
)


@pytest.mark.parametrize(
    ("first", "spans", "kinds"),
    [
        pytest.param(300.0, True, [], id="in hand in the first span"),
        pytest.param(14_500.0, True, [], id="in hand just before the second"),
        pytest.param(8000.0, True, ["doubled"], id="between the spans"),
        pytest.param(18_000.0, True, ["doubled"], id="after the last span, before the fault has ended"),
        pytest.param(8000.0, False, [], id="all the time, when no spans are told"),
    ],
)
def test_only_what_was_in_flight_in_a_span_may_come_twice(first: float, spans: bool, kinds: list[str]) -> None:
    window = LONG if spans else replace(LONG, spans=())
    handed_in = sent(at=STRUCK + first - 1000)
    handed_in.confirmed = handed_in.began = handed_in.enqueued_at
    verdict = judged([handed_in], [came(STRUCK + first), came(STRUCK + first + 3000)], windows=[window])
    assert list(tally(verdict)) == kinds


@pytest.mark.parametrize(
    ("first", "relayed", "kinds"),
    [
        pytest.param(450.0, False, [], id="on the wire"),
        pytest.param(550.0, False, ["doubled"], id="too late for the wire"),
        pytest.param(950.0, True, [], id="by the broker and a tier"),
        pytest.param(1050.0, True, ["doubled"], id="too late for that"),
    ],
)
def test_what_was_handed_to_a_tier_at_the_fault_arrives_later_than_what_was_on_the_wire(
    first: float, relayed: bool, kinds: list[str]
) -> None:
    window = Window(STRUCK, STRUCK, STRUCK + 2000, relayed=relayed)
    arrivals = [came(STRUCK + first), came(STRUCK + first + 5000)]
    verdict = judged([sent(at=STRUCK - 9000)], arrivals, windows=[window])
    assert list(tally(verdict)) == kinds


@pytest.mark.parametrize(
    ("began", "confirmed", "kinds"),
    [
        pytest.param(400.0, 450.0, [], id="in the first span"),
        pytest.param(6000.0, 15_500.0, [], id="from between the spans to the second"),
        pytest.param(6000.0, 6100.0, ["doubled"], id="between the spans"),
    ],
)
def test_only_a_publish_that_was_under_way_in_a_span_may_be_made_again(
    began: float, confirmed: float, kinds: list[str]
) -> None:
    handed_in = sent(at=STRUCK + began, confirmed=STRUCK + confirmed)
    arrivals = [came(STRUCK + 30_000), came(STRUCK + 30_001)]
    assert list(tally(judged([handed_in], arrivals, windows=[LONG]))) == kinds


@pytest.mark.parametrize(
    ("began", "kinds"),
    [
        pytest.param(6000.0, [], id="until it had leaders again"),
        pytest.param(10_000.0, ["doubled"], id="before its node was back, which breaks nothing"),
    ],
)
def test_spans_do_not_shorten_the_time_in_which_a_dead_broker_has_no_leaders(began: float, kinds: list[str]) -> None:
    window = Window(STRUCK, STRUCK + 12_000, STRUCK + 7000, handing=True, spans=((STRUCK, STRUCK + 1000),))
    arrivals = [came(STRUCK + began + 9000), came(STRUCK + began + 9100)]
    verdict = judged([sent(at=STRUCK + began)], arrivals, windows=[window])
    assert list(tally(verdict)) == kinds


def test_what_the_ledger_lacks_between_two_spans_is_missing() -> None:
    at = STRUCK + 8000
    assert tally(judged([sent(at=at - 1000)], [came(at)], rows=[], windows=[LONG])) == {"untrue": 1}
    assert judged([sent(at=STRUCK - 800)], [came(STRUCK + 200)], rows=[], windows=[LONG]).good


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        pytest.param([Told("n", 1, 1000.0)], 0, id="as it came"),
        pytest.param([], 1, id="an attempt is missing"),
        pytest.param([Told("n", 1, 1000.0), Told("n", 1, 1000.0)], 1, id="an attempt is there twice"),
        pytest.param([Told("n", 1, 1000.0), Told("n", 2, 3000.0, answered=False)], 1, id="an attempt that never came"),
    ],
)
def test_the_ledger_must_hold_what_came(rows: list[Told], found: int) -> None:
    assert tally(judged([sent()], [came(1000)], rows=rows))["untrue"] == found


def test_an_attempt_in_flight_at_the_fault_may_be_missing_in_the_ledger() -> None:
    verdict = judged(
        [sent(at=STRUCK - 1100)],
        [came(STRUCK - 20), came(STRUCK + 2000)],
        rows=[Told("n", 1, STRUCK + 2000)],
    )
    assert verdict.good
    assert verdict.duplicated == 1


@pytest.mark.parametrize(("answered", "found"), [(True, 1), (False, 0)])
def test_at_a_fault_too_an_attempt_that_was_answered_is_in_the_ledger_once(answered: bool, found: int) -> None:
    at = STRUCK - 20
    rows = [Told("n", 1, at), Told("n", 1, at, answered=answered)]
    assert tally(judged([sent(at=STRUCK - 1100)], [came(at)], rows=rows))["untrue"] == found


def test_a_notification_whose_address_is_not_allowed_must_end_as_exhausted_and_never_arrive() -> None:
    refused = sent(attempts=0)
    rows = [Told("n", number, 1000.0 * number, answered=False) for number in (1, 2, 3)]
    assert judged([refused], [], rows=rows, status={"n": "exhausted"}).good
    verdict = judged([refused], [came(1000)], rows=rows, status={"n": "completed"})
    assert {"strange", "lost"} <= tally(verdict).keys()


@pytest.mark.parametrize("status", ["exhausted", "attempted", "absent"])
def test_what_the_ledger_does_not_have_as_completed_is_lost(status: str) -> None:
    verdict = judged([sent()], [came(1000)], status={} if status == "absent" else {"n": status})
    assert tally(verdict)["lost"] == 1
    assert verdict.lost == 1


def test_a_queue_that_holds_a_message_is_a_violation() -> None:
    assert tally(judged([sent()], [came(1000)], depths={"work": 0, "wait": 1}))["undrained"] == 1


def test_what_is_not_confirmed_is_neither_sent_nor_lost() -> None:
    verdict = judged([sent(), sent("m", confirmed=None)], [came(1000)])
    assert (verdict.sent, verdict.lost) == (1, 0)


def test_recovery_lasts_until_what_was_struck_stands_and_nothing_comes_late() -> None:
    first, second = Window(10_000, 10_000, 12_000), Window(30_000, 30_000, 30_500)
    handed_in = [sent("early", 9_000), sent("late", 10_500), sent("prompt", 29_500)]
    arrivals = [came(10_100, name="early"), came(14_000, name="late"), came(30_600, name="prompt")]
    assert judged(handed_in, arrivals, windows=[first, second]).recovered == [4.0, 0.5]


def test_outstanding_counts_confirmed_ones_that_were_not_acknowledged_yet() -> None:
    handed_in = [sent("a", attempts=2), sent("b"), sent("c", confirmed=None), sent("d")]
    assert outstanding(handed_in, [came(1, name="a"), came(1, name="b")]) == 2
