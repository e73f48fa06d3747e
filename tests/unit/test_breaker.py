"""The circuit breaker: when it opens, who probes, and what the processes tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from notifier.delivery.breaker import Breakers, State
from notifier.domain.ladder import PRESETS
from notifier.domain.probing import TURN
from notifier.sections import Breaker, Isolation
from notifier.settings import Settings

PATIENCE = 15.0


class Stage:
    """Breakers with a clock of their own, and what they told."""

    def __init__(self, *, shared: bool = False, **settings: Any) -> None:
        self.now = 1_700_000_000.0
        self.told: list[tuple[str, Mapping[str, Any] | None]] = []
        self.suspects: list[str] = []
        suspected = self._suspected if shared else None
        self.set_by = 0.0  # what somebody set the wall clock by
        given = Breaker(**{"attempts": 20, **settings})
        self.breakers = Breakers(
            given, PATIENCE, self._changed, suspected, lambda: self.now + self.set_by, lambda: self.now
        )

    def _suspected(self, merchant: str) -> bool:
        self.suspects.append(merchant)
        return True

    def _changed(self, merchant: str, value: Mapping[str, Any] | None) -> None:
        self.told.append((merchant, value))

    def attempts(self, outcomes: str, merchant: str = "m") -> None:
        """One each second: - failed, + acknowledged."""
        for outcome in outcomes:
            if self.breakers.pass_(merchant) is None:
                self.breakers.attempted(merchant, acknowledged=outcome == "+")
            self.now += 1

    def fail_probe(self) -> None:
        """In the moment from which on any notification may be it."""
        self.now = self.last["until"] / 1000 + TURN
        assert self.breakers.pass_("m") is None
        self.breakers.attempted("m", acknowledged=False)

    @property
    def state(self) -> str:
        return self.breakers.open.get("m", State.CLOSED)

    @property
    def last(self) -> Mapping[str, Any]:
        value = self.told[-1][1]
        assert value is not None
        return value


@pytest.mark.parametrize(
    ("outcomes", "most"),
    [
        ("", 50),
        ("-", 19),
        ("-" * 19, 1),
        ("+", 50),
        ("-" * 19 + "+", 50),
        ("-" * 10 + "+" + "-" * 8, 50),
    ],
)
def test_whom_nothing_speaks_for_is_called_no_more_often_at_once_than_it_takes_to_open(
    outcomes: str, most: int
) -> None:
    stage = Stage()
    stage.attempts(outcomes)
    assert stage.breakers.worth("m", 50) == most
    assert stage.breakers.worth("m", 3) == min(3, most)


def test_who_failed_often_enough_and_is_acknowledged_elsewhere_has_all_its_callbacks() -> None:
    stage = Stage(shared=True)
    stage.attempts("-" * 20)
    assert stage.suspects == ["m"]
    assert stage.breakers.worth("m", 50) == 1, "until the others have said what they counted"
    stage.breakers.judge("m", 0, 60)
    stage.breakers.answered("m")
    assert stage.state == "closed"
    assert stage.breakers.worth("m", 50) == 50


def test_who_is_being_asked_about_already_is_not_called_less_for_it() -> None:
    stage = Stage(shared=True)
    stage.attempts("-" * 20)
    stage.breakers.answered("m")
    stage.breakers._suspected = lambda merchant: False
    stage.now += 10
    stage.attempts("-")
    assert stage.breakers.worth("m", 50) == 50


@pytest.mark.parametrize("takes", [10, 12, 15, 30])
def test_callbacks_that_fail_slowly_and_seldom_do_not_keep_it_from_opening_when_more_come(takes: int) -> None:
    """One every 7 s for ten minutes, then one a second: as many begin as `worth` lets, first come first."""
    stage = Stage(attempts=12)
    waiting, running, opened = 0, list[float](), None
    for second in range(900):
        stage.now += 1
        waiting += second % 7 == 0 if second < 600 else 1
        for _ in [ends for ends in running if ends <= second]:
            stage.breakers.attempted("m", acknowledged=False)
        running = [ends for ends in running if ends > second]
        if stage.state == State.OPEN:
            opened = second
            break
        while waiting and len(running) < stage.breakers.worth("m", 20):
            waiting -= 1
            running.append(second + takes)
    assert opened is not None
    assert opened <= 600 + takes + 20


def test_without_breakers_nothing_is_bounded_by_them() -> None:
    stage = Stage(enabled=False)
    stage.attempts("-" * 10)
    assert stage.breakers.worth("m", 50) == 50


def test_by_default_one_round_of_timeouts_is_enough_and_two_notifications_that_fail_are_not() -> None:
    share, prefetch, hanging = Isolation().share, Settings().prefetch, 10
    room = share * prefetch / (1 + share * hanging)  # of each of ten that hang: a share of what they leave free
    assert 2 * len(PRESETS["default"]) < Breaker().attempts <= min(room, Isolation().concurrency)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("-" * 19, "closed"),
        ("-" * 20, "open"),
        ("+" * 4 + "-" * 16, "open"),
        ("+" * 5 + "-" * 15, "closed"),
        ("+" * 5 + "-" * 20, "open"),
        ("+" * 100, "closed"),
        ("+-" * 50, "closed"),
    ],
)
def test_it_opens_when_of_enough_attempts_too_many_failed(outcomes: str, state: str) -> None:
    stage = Stage()
    stage.attempts(outcomes)
    assert stage.state == state


def test_a_quiet_merchant_is_never_cut_off() -> None:
    stage = Stage()
    for _ in range(200):
        stage.attempts("-")
        stage.now += 5
    assert stage.state == "closed", "ten attempts in the last minute say too little"


def test_switched_off_it_lets_everything_through() -> None:
    stage = Stage(enabled=False)
    stage.attempts("-" * 1000)
    assert (stage.state, stage.told) == ("closed", [])


def test_while_open_nothing_passes_and_the_reason_has_the_figures_and_the_moment() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    refusal = stage.breakers.refusal("m")
    assert refusal is not None
    assert "20 of the last 20 attempts failed" in refusal
    assert "2023-11-14T22:14:09" in refusal, "30 s after the twentieth"
    assert stage.breakers.refusal("other") is None


def test_after_the_pause_one_probe_goes_and_the_others_wait_for_it() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    stage.now += 30
    assert stage.breakers.refusal("m") is None, "looking takes nothing"
    assert stage.breakers.pass_("m") is None
    assert stage.state == "half-open"
    assert "one attempt is under way" in str(stage.breakers.pass_("m"))
    stage.breakers.attempted("m", acknowledged=True)
    assert stage.state == "closed"
    assert stage.told[-1] == ("m", None)
    assert stage.breakers.pass_("m") is None


def test_new_ones_and_those_that_waited_are_the_probe_in_turn() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    assert "is open until" in str(stage.breakers.pass_("m", new=True))
    for turn in (True, False, True, False):
        stage.now = stage.last["until"] / 1000
        for look in (stage.breakers.refusal, stage.breakers.pass_):
            assert f"now {'a new one' if turn else 'one that was held'}" in str(look("m", new=not turn))
        assert stage.state == "open"
        assert stage.breakers.pass_("m", new=turn) is None
        assert stage.state == "half-open"
        assert "one attempt is under way" in str(stage.breakers.pass_("m", new=turn))
        stage.breakers.attempted("m", acknowledged=False)
        assert stage.state == "open"


@pytest.mark.parametrize("failed", [0, 1])
def test_where_none_of_those_comes_whose_turn_it_is_any_may_be_the_probe(failed: int) -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    for _ in range(failed):
        stage.fail_probe()
    stage.now = stage.last["until"] / 1000 + TURN
    assert stage.breakers.pass_("m", new=bool(failed)) is None
    assert stage.state == "half-open"


def test_whose_turn_it_is_the_others_know_and_a_new_opening_begins_with_a_new_one() -> None:
    one, other = Stage(), Stage()
    one.attempts("-" * 20)
    one.fail_probe()
    other.breakers.told("m", one.last)
    other.now = one.last["until"] / 1000
    assert "one that was held" in str(other.breakers.refusal("m", new=True))
    assert other.breakers.pass_("m", new=False) is None
    other.breakers.attempted("m", acknowledged=True)
    other.attempts("-" * 20)
    assert other.last["probes"] == 0
    other.now = other.last["until"] / 1000
    assert other.breakers.pass_("m", new=True) is None


def test_one_of_each_kind_that_fails_doubles_the_pause_to_a_bound() -> None:
    stage = Stage(longest_pause=200)
    stage.attempts("-" * 20)
    pauses, waited = [], []
    for _ in range(10):
        pauses.append(stage.last["pause"])
        waited.append(stage.last["until"] / 1000 - stage.now)
        stage.fail_probe()
    assert pauses == [30, 30, 60, 60, 120, 120, 200, 200, 200, 200]
    assert waited[1::2] == [0] * 5
    assert waited[2::2] == pytest.approx([60, 120, 200, 200], abs=0.01)


def test_who_fails_each_first_attempt_is_back_after_one_pause() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    opened = stage.last["until"] / 1000
    stage.now = opened
    assert stage.breakers.pass_("m", new=True) is None
    stage.breakers.attempted("m", acknowledged=False)
    assert stage.breakers.refusal("m", new=True) is not None
    assert stage.breakers.pass_("m", new=False) is None
    stage.breakers.attempted("m", acknowledged=True)
    assert stage.state == "closed"
    assert stage.now == opened


def test_a_pause_that_is_longer_than_the_longest_is_kept() -> None:
    """A moment that is further ahead was told before a clock was set; this one was not."""
    stage = Stage(pause=300, longest_pause=60)
    stage.attempts("-" * 20)
    assert stage.breakers.refusal("m") is not None
    stage.now -= 3600
    assert stage.breakers.refusal("m") is None


def test_a_probe_that_is_lost_makes_room_for_another() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    stage.now += 30
    assert stage.breakers.pass_("m") is None
    stage.now += PATIENCE - 1
    assert stage.breakers.pass_("m") is not None
    stage.now += 1
    assert stage.breakers.pass_("m") is None


def test_a_probe_that_was_not_made_leaves_its_place_to_the_next() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    stage.now += 30
    assert stage.breakers.pass_("m") is None
    stage.breakers.withdrawn("m")
    assert stage.state == "open"
    assert stage.breakers.pass_("m") is None


def test_closing_begins_to_count_anew_with_the_probe_that_was_acknowledged() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    stage.now += 30
    stage.attempts("+")
    assert stage.breakers.counted("m") == (0, 1)
    assert stage.breakers.acknowledges("m", 20, 20), "so the first attempts that now come at once leave a doubt"
    stage.attempts("-" * 18)
    assert stage.state == "closed"
    stage.attempts("-")
    assert stage.state == "open"


def test_what_one_process_learned_the_others_know() -> None:
    one, other = Stage(), Stage()
    one.attempts("-" * 20)
    other.breakers.told("m", one.last)
    assert other.state == "open"
    assert other.breakers.refusal("m") == one.breakers.refusal("m")
    one.now += 30
    assert one.breakers.pass_("m") is None
    other.now = one.now
    other.breakers.told("m", one.last)
    assert other.state == "half-open"
    assert other.breakers.pass_("m") is not None, "the probe is the other's"
    other.breakers.attempted("m", acknowledged=False)
    assert other.state == "half-open", "what had started before is not the probe"
    other.breakers.told("m", None)
    assert other.breakers.pass_("m") is None


@pytest.mark.parametrize("value", [{}, {"state": "ajar"}, "open", 7, {"state": "open", "until": "soon"}])
def test_a_value_that_nobody_understands_is_a_closed_breaker(value: object) -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    stage.breakers.told("m", value)
    assert stage.state == "closed"


def test_a_clock_that_was_set_back_by_an_hour_keeps_nobody_out_for_an_hour() -> None:
    stage = Stage()
    stage.attempts("-" * 20)
    stage.set_by = -3600
    assert stage.breakers.pass_("m") is None


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_was_set_changes_nothing_about_what_was_counted(seconds: float) -> None:
    stage = Stage()
    stage.attempts("-" * 10)
    stage.set_by = seconds
    stage.attempts("-" * 9)
    assert stage.state == "closed"
    stage.attempts("-")
    assert stage.state == "open"


def test_thousands_of_failing_merchants_are_not_all_remembered() -> None:
    stage = Stage()
    for number in range(20_000):
        stage.attempts("-", f"m-{number}")
    assert len(stage.breakers._circuits) <= 5001


def test_who_fails_here_and_succeeds_elsewhere_is_not_cut_off_and_not_asked_about_all_the_time() -> None:
    stage = Stage(shared=True)
    for _ in range(25):
        stage.breakers.attempted("m", acknowledged=False)
    assert (stage.suspects, stage.state) == (["m"], "closed")
    stage.breakers.judge("m", failed=0, of=25)
    assert (stage.state, stage.told) == ("closed", [])
    stage.now += 10
    stage.attempts("-")
    assert stage.suspects == ["m", "m"], "a sixth of the window later it is asked again"
    stage.breakers.judge("m", failed=20, of=22)
    assert stage.state == "open"
    assert (stage.last["failed"], stage.last["of"]) == (46, 48)


def test_what_a_process_that_was_just_started_has_forgotten_does_not_cut_a_merchant_off() -> None:
    stage = Stage(shared=True)
    stage.attempts("-" * 25)
    stage.breakers.judge("m", failed=0, of=2, over=3.0)
    assert stage.state == "closed", "who fails here each first time may have succeeded there each second time"
    stage.attempts("-" * 25)
    stage.breakers.judge("m", failed=0, of=2, over=28.0)
    assert stage.state == "open"
    assert stage.last["of"] in range(20, 28), "what both have counted since"


def test_processes_that_were_started_together_count_all_they_have() -> None:
    stage = Stage(shared=True)
    stage.attempts("-" * 20)
    assert stage.breakers.over == 20
    stage.breakers.judge("m", failed=0, of=0, over=16.0)
    assert stage.state == "open"
    stage.now += 100
    assert stage.breakers.over == 60


def test_what_is_counted_leaves_the_window() -> None:
    stage = Stage(shared=True)
    stage.attempts("-+-")
    assert stage.breakers.counted("m") == (2, 3)
    stage.now += 61
    assert stage.breakers.counted("m") == (0, 0)
    assert stage.breakers.counted("unknown") == (0, 0)
