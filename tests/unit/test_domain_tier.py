"""Tiers: canonical names, what is read and what is refused, and which tier covers a wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.tier import LONGEST, Tier, covering
from notifier.errors import InvalidTier

DAY = 86_400
tiers = st.integers(0, LONGEST).map(Tier)


@pytest.mark.parametrize(
    ("spelled", "seconds", "name"),
    [
        ("0s", 0, "0s"),
        ("0m", 0, "0s"),
        ("0d0h0m0s", 0, "0s"),
        ("1s", 1, "1s"),
        ("005s", 5, "5s"),
        ("60s", 60, "1m"),
        ("90s", 90, "1m30s"),
        ("1m30s", 90, "1m30s"),
        ("30s1m", 90, "1m30s"),
        ("3600s", 3600, "1h"),
        ("60m", 3600, "1h"),
        ("1h0m5s", 3605, "1h5s"),
        ("24h", DAY, "1d"),
        ("1w", 7 * DAY, "7d"),
        ("1w1d", 8 * DAY, "8d"),
        ("49d", 49 * DAY, "49d"),
        ("48d23h59m59s", 49 * DAY - 1, "48d23h59m59s"),
        ("4233600s", 49 * DAY, "49d"),
        (" 5s\n", 5, "5s"),
    ],
)
def test_a_tier_is_read_and_named_canonically(spelled: str, seconds: int, name: str) -> None:
    tier = Tier.parse(spelled)
    assert tier.seconds == seconds
    assert tier.name == str(tier) == name


@pytest.mark.parametrize(
    ("spelled", "reason"),
    [
        ("", "whole seconds"),
        ("5", "whole seconds"),
        ("s", "whole seconds"),
        ("5x", "whole seconds"),
        ("5S", "whole seconds"),
        ("-5s", "whole seconds"),
        ("+5s", "whole seconds"),
        ("1.5s", "whole seconds"),
        ("500ms", "whole seconds"),
        ("1 m", "whole seconds"),
        ("1m 30s", "whole seconds"),
        ("٣s", "whole seconds"),
        ("1s,3s", "whole seconds"),
        ("1m5m", "same unit twice"),
        ("49d1s", "longest possible tier, 49d"),
        ("8w", "longest possible tier, 49d"),
        ("999999999d", "longest possible tier, 49d"),
        ("9999999999s", "whole seconds"),
    ],
)
def test_what_is_no_tier_is_refused_naming_the_text_and_the_reason(spelled: str, reason: str) -> None:
    with pytest.raises(InvalidTier) as refused:
        Tier.parse(spelled)
    assert repr(spelled) in str(refused.value)
    assert reason in str(refused.value)


def test_a_long_text_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidTier) as refused:
        Tier.parse("x" * 100_000)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("seconds", [-1, LONGEST + 1])
def test_seconds_out_of_range_are_refused(seconds: int) -> None:
    with pytest.raises(InvalidTier, match="0s to 49d"):
        Tier(seconds)


@given(tiers)
def test_reading_a_canonical_name_gives_the_same_tier(tier: Tier) -> None:
    assert Tier.parse(tier.name) == tier


@given(tiers)
def test_a_canonical_name_has_no_zero_parts_and_its_largest_unit_first(tier: Tier) -> None:
    if tier.seconds == 0:
        assert tier.name == "0s"
        return
    numbers = [int(part) for part in "".join(c if c.isdigit() else " " for c in tier.name).split()]
    units = [c for c in tier.name if not c.isdigit()]
    assert 0 not in numbers
    assert units == sorted(units, key="dhms".index)
    assert len(set(units)) == len(units)
    assert all(number < {"d": 50, "h": 24, "m": 60, "s": 60}[unit] for number, unit in zip(numbers, units, strict=True))


@given(tiers, tiers)
def test_tiers_order_by_their_delay_and_names_are_unique(one: Tier, other: Tier) -> None:
    assert (one < other) == (one.seconds < other.seconds)
    assert (one.name == other.name) == (one == other)


@given(tiers)
def test_milliseconds_fit_the_limits_of_both_delay_mechanisms(tier: Tier) -> None:
    assert tier.milliseconds == tier.seconds * 1000 < 2**32


def _tiers(text: str) -> list[Tier]:
    return [Tier.parse(part) for part in text.split()]


@pytest.mark.parametrize(
    ("configured", "seconds", "chosen"),
    [
        ("1s 3s 5s 15s 30s", 3, "3s"),
        ("1s 3s 5s 15s 30s", 4, "5s"),
        ("30s 5s 1s", 4, "5s"),
        ("1s 3s 5s", 0, "1s"),
        ("0s 1s", 0, "0s"),
        ("0s 1s", 0.2, "1s"),
        ("1s 3s 5s", 5.01, "5s"),
        ("1s 3s 5s", 86_400, "5s"),
        ("1s 3s 5s", float("inf"), "5s"),
        ("7s", 1, "7s"),
        ("7s", 100, "7s"),
    ],
)
def test_the_covering_tier_is_the_shortest_that_is_not_shorter_else_the_longest(
    configured: str, seconds: float, chosen: str
) -> None:
    assert covering(_tiers(configured), seconds).name == chosen


@given(st.sets(tiers, min_size=1), st.floats(0, 2 * LONGEST))
def test_no_configured_tier_would_cover_a_wait_better(configured: set[Tier], seconds: float) -> None:
    chosen = covering(configured, seconds)
    assert chosen in configured
    for other in configured:
        if other.seconds >= seconds:
            assert seconds <= chosen.seconds <= other.seconds
        else:
            assert chosen >= other
