"""The pure rules of supervision: when to restart, whom to suspect, how to say how something ended, how to let go."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.supervision import frames, restart
from notifier.supervision.departure import Act, Departure, Limits
from notifier.supervision.endings import Ending
from notifier.supervision.suspects import CHARACTERS_LIMIT, KEY_LIMIT, KEYS_LIMIT, Suspects

# --- restart


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 0), (2, 0.5), (3, 1), (4, 2), (5, 4), (6, 8), (7, 16), (8, 30), (9, 30), (1_000_000, 30)],
)
def test_restart_comes_at_once_then_half_a_second_doubling_to_thirty(failures: int, seconds: float) -> None:
    assert restart.delay_before(failures) == seconds


@pytest.mark.parametrize(("ready_for", "failures"), [(0, 8), (59.9, 8), (60, 1), (3600, 1)])
def test_a_minute_of_health_makes_the_next_end_the_first_one_again(ready_for: float, failures: int) -> None:
    assert restart.failures_after(7, ready_for) == failures


@given(st.floats(0, 30), st.floats(0, 1, exclude_max=True))
def test_jitter_moves_a_delay_by_at_most_a_fifth(delay: float, draw: float) -> None:
    assert delay * 0.8 - 1e-9 <= restart.jittered(delay, draw) <= delay * 1.2 + 1e-9


def test_jitter_reaches_both_ways() -> None:
    assert restart.jittered(10, 0) == 8
    assert restart.jittered(10, 0.5) == 10


# --- suspects


def told(suspects: Suspects) -> tuple[int, dict[str, int]]:
    snapshot = suspects.snapshot()
    return snapshot["careful"], snapshot["deaths"]


def test_the_first_incarnation_is_not_careful() -> None:
    assert told(Suspects()) == (0, {})


def test_a_clean_end_leaves_no_suspicion() -> None:
    suspects = Suspects()
    suspects.claim(["a"])
    suspects.ended_cleanly()
    assert told(suspects) == (0, {})


@pytest.mark.parametrize("was_ready", [True, False])
def test_after_a_death_the_next_one_starts_careful(was_ready: bool) -> None:
    suspects = Suspects()
    suspects.died(was_ready=was_ready)
    assert told(suspects) == (1, {})


def test_a_key_alone_at_each_death_is_counted_and_carefulness_does_not_sharpen() -> None:
    suspects = Suspects()
    suspects.died(was_ready=True)
    seen = [told(suspects)]
    for _ in range(3):
        suspects.claim(["innocent", "killer"])
        suspects.claim(["killer"])
        suspects.died(was_ready=True)
        seen.append(told(suspects))
    assert seen == [(1, {}), (1, {"killer": 1}), (1, {"killer": 2}), (1, {"killer": 3})]


@pytest.mark.parametrize("claimed", [[], ["a", "b"]], ids=["nothing claimed", "two claimed"])
def test_a_death_while_careful_that_blames_nobody_makes_the_next_one_stricter(claimed: list[str]) -> None:
    suspects = Suspects()
    suspects.died(was_ready=True)
    suspects.snapshot()
    suspects.claim(claimed)
    suspects.died(was_ready=True)
    assert told(suspects) == (2, {})


def test_a_careful_child_that_never_came_to_work_says_nothing_about_what_kills() -> None:
    suspects = Suspects()
    for _ in range(5):
        suspects.died(was_ready=False)
        suspects.snapshot()
    assert told(suspects) == (1, {})


def test_a_careful_child_that_claimed_two_before_it_was_ready_counts_as_having_worked() -> None:
    suspects = Suspects()
    suspects.died(was_ready=True)
    suspects.claim(["a", "b"])
    suspects.died(was_ready=False)
    assert told(suspects)[0] == 2


def test_strictness_stays_until_the_child_is_calm_even_when_a_killer_is_found() -> None:
    suspects = Suspects()
    suspects.died(was_ready=True)
    suspects.died(was_ready=True)
    suspects.claim(["killer"])
    suspects.died(was_ready=True)
    assert told(suspects) == (2, {"killer": 1})
    suspects.calm()
    suspects.died(was_ready=True)
    assert told(suspects) == (1, {"killer": 1})


def test_a_calm_child_is_no_longer_blamed_for_what_it_claimed_before() -> None:
    suspects = Suspects()
    suspects.died(was_ready=True)
    suspects.claim(["innocent"])
    suspects.calm()
    suspects.died(was_ready=True)
    assert told(suspects) == (1, {})


def test_a_new_incarnation_claims_nothing_until_it_says_so() -> None:
    suspects = Suspects()
    suspects.claim(["a"])
    suspects.snapshot()
    suspects.died(was_ready=True)
    assert told(suspects) == (1, {})


def kill(suspects: Suspects, key: str) -> None:
    suspects.claim([key])
    suspects.died(was_ready=True)


def test_the_key_longest_without_a_death_is_forgotten_first() -> None:
    suspects = Suspects()
    kill(suspects, "forgotten")
    kill(suspects, "kept")
    for number in range(KEYS_LIMIT - 2):
        kill(suspects, f"k{number}")
    kill(suspects, "kept")
    kill(suspects, "one too many")
    deaths = told(suspects)[1]
    assert len(deaths) == KEYS_LIMIT
    assert "forgotten" not in deaths
    assert deaths["kept"] == 2


def test_what_is_remembered_fits_into_one_frame_whatever_the_keys_are_made_of() -> None:
    suspects = Suspects()
    for number in range(KEYS_LIMIT):
        kill(suspects, chr(0x1F600 + number % 50) * (KEY_LIMIT - 4) + f"{number:04}")
    snapshot = suspects.snapshot()
    assert sum(map(len, snapshot["deaths"])) <= CHARACTERS_LIMIT
    assert len(frames.encode(snapshot)) < frames.LIMIT - 128 * 1024


# --- endings


@pytest.mark.parametrize(
    ("ending", "words", "clean"),
    [
        (Ending(0), "exit code 0", True),
        (Ending(3), "exit code 3", False),
        (Ending(78), "exit code 78", False),
        (Ending(-15), "SIGTERM", False),
        (Ending(-11), "SIGSEGV", False),
        (Ending(-9), "SIGKILL by someone else: out of memory?", False),
        (Ending(-9, "was not ready within 30 s"), "was not ready within 30 s (SIGKILL)", False),
        (Ending(0, "did not finish within 25 s"), "did not finish within 25 s (exit code 0)", False),
        (Ending(-63), "signal 63", False),
    ],
)
def test_an_end_has_a_name(ending: Ending, words: str, clean: bool) -> None:
    assert (str(ending), ending.clean) == (words, clean)


# --- departures

LIMITS = Limits(start=30, drain=25, term=5, quick=2)


def steps(departure: Departure) -> list[tuple[float, Act, str | None]]:
    """What is done when, and what the master has against the child from then on."""
    taken = []
    while (due := departure.due) is not None:
        assert departure.take(due - 0.001) is None
        act = departure.take(due)
        assert act is not None
        taken.append((due, act, departure.why))
    assert departure.take(1e9) is None
    return taken


@pytest.mark.parametrize(
    ("departure", "expected"),
    [
        pytest.param(
            Departure.drain(100, LIMITS, worked=True),
            [
                (100, "drain", None),
                (125, signal.SIGTERM, "did not finish within 25 s"),
                (130, signal.SIGKILL, "did not finish within 25 s"),
            ],
            id="drain",
        ),
        pytest.param(
            Departure.drain(100, LIMITS, worked=False),
            [
                (100, "drain", None),
                (105, signal.SIGTERM, "did not finish within 5 s"),
                (110, signal.SIGKILL, "did not finish within 5 s"),
            ],
            id="drain of one that has not begun",
        ),
        pytest.param(
            Departure.quick(100, LIMITS),
            [(100, "quick", None), (102, signal.SIGKILL, "did not leave within 2 s")],
            id="quick",
        ),
        pytest.param(
            Departure.unmet(100, LIMITS),
            [(100, signal.SIGTERM, None), (105, signal.SIGKILL, "did not leave within 5 s")],
            id="not met yet",
        ),
        pytest.param(
            Departure.parted(100, LIMITS, "end of file"),
            [
                (105, signal.SIGTERM, "went on after its pipe had ended (end of file)"),
                (110, signal.SIGKILL, "went on after its pipe had ended (end of file)"),
            ],
            id="pipe ended",
        ),
        pytest.param(
            Departure.hung(100, "slept"),
            [(100, signal.SIGUSR2, "slept"), (100.5, signal.SIGKILL, "slept")],
            id="hung",
        ),
        pytest.param(Departure.killed(100, "sang"), [(100, signal.SIGKILL, "sang")], id="killed"),
    ],
)
def test_a_child_is_asked_first_and_forced_later(
    departure: Departure, expected: list[tuple[float, Act, str | None]]
) -> None:
    assert steps(departure) == expected


def test_a_snapshot_is_json() -> None:
    assert json.loads(json.dumps(Suspects().snapshot())) == {"careful": 0, "deaths": {}}
