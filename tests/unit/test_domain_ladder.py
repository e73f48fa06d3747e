"""Ladders: spelling, presets, names, and the refusal of tiers that nobody serves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.ladder import MOST_STEPS, PRESETS, Ladder, named
from notifier.domain.tier import LONGEST, Tier
from notifier.errors import InvalidLadder

ladders = st.lists(st.integers(0, LONGEST).map(Tier), min_size=1, max_size=MOST_STEPS).map(
    lambda tiers: Ladder(tuple(tiers))
)


@pytest.mark.parametrize(
    ("spelled", "canonical"),
    [
        ("1s,3s,5s,15s,30s", "1s,3s,5s,15s,30s"),
        ("1s 3s 5s", "1s,3s,5s"),
        (" 1s ,  3s ", "1s,3s"),
        ("90s,60s", "1m30s,1m"),
        ("15s,15s,30s", "15s,15s,30s"),
        ("0s", "0s"),
        ("30s,1s", "30s,1s"),
    ],
)
def test_a_ladder_is_read_in_its_order_and_written_canonically(spelled: str, canonical: str) -> None:
    assert str(Ladder.parse(spelled)) == canonical


@pytest.mark.parametrize(
    ("spelled", "named_in_error"),
    [
        ("", ["''", "such as 1s,3s,5s"]),
        (" , ", ["such as 1s,3s,5s"]),
        ("1s,3x,5s", ["tier 2", "'1s,3x,5s'", "'3x'"]),
        ("1s;3s", ["tier 1", "'1s;3s'"]),
        ("1s,3s,50d", ["tier 3", "'50d'", "49d"]),
        ("1s," * 65, ["65 tiers", "at most 64"]),
        ("1s," * 100_000, ["300000 characters", "at most 64"]),
    ],
)
def test_what_is_no_ladder_is_refused_naming_the_bad_part(spelled: str, named_in_error: list[str]) -> None:
    with pytest.raises(InvalidLadder) as refused:
        Ladder.parse(spelled)
    assert all(part in str(refused.value) for part in named_in_error)
    assert len(str(refused.value)) < 400


def test_a_ladder_of_the_most_tiers_and_of_the_longest_spelling_is_read() -> None:
    assert len(Ladder.parse("1s," * 64)) == 64
    assert len(Ladder.parse("1s".ljust(2048))) == 1


def test_a_ladder_of_no_tiers_cannot_be_made() -> None:
    with pytest.raises(InvalidLadder, match="at least one tier"):
        Ladder(())


@given(ladders)
def test_reading_what_was_written_gives_the_same_ladder(ladder: Ladder) -> None:
    assert Ladder.parse(str(ladder)) == ladder


@given(ladders)
def test_a_ladder_is_a_sequence_of_its_tiers(ladder: Ladder) -> None:
    assert list(ladder) == [ladder[step] for step in range(len(ladder))]
    assert ladder.total == sum(tier.seconds for tier in ladder)


@pytest.mark.parametrize(  # FACTS §7
    ("preset", "spelled", "total"),
    [
        ("default", "1s,3s,5s,15s,30s", 54),
        ("wechat", "15s,15s,30s,3m,10m,20m,30m,30m,30m,1h,3h,3h,3h,6h,6h", 24 * 3600 + 4 * 60),
        ("alipay", "0s,4m,10m,10m,1h,2h,6h,15h", 87_840),
        ("standard-webhooks", "0s,5s,5m,30m,2h,5h,10h,14h,20h,1d", 272_105),
    ],
)
def test_the_presets_are_the_ladders_of_the_field(preset: str, spelled: str, total: int) -> None:
    assert str(PRESETS[preset]) == spelled
    assert PRESETS[preset].total == total


def test_there_are_four_presets() -> None:
    assert list(PRESETS) == ["default", "wechat", "alipay", "standard-webhooks"]


@pytest.mark.parametrize(
    ("text", "tiers"),
    [("wechat", str(PRESETS["wechat"])), (" alipay ", str(PRESETS["alipay"])), ("2s,4s", "2s,4s")],
)
def test_a_ladder_is_had_by_name_or_spelled_out(text: str, tiers: str) -> None:
    assert str(named(text)) == tiers


def test_a_configured_name_is_looked_up_before_the_text_is_spelled() -> None:
    mine = {"night": Ladder.parse("8h")}
    assert named("night", mine) is mine["night"]


def test_an_unknown_name_is_refused_listing_the_known_ones() -> None:
    with pytest.raises(InvalidLadder, match=r"'nope'.*default, wechat, alipay, standard-webhooks"):
        named("nope")


def test_a_ladder_of_configured_tiers_is_let_in() -> None:
    ladder = Ladder.parse("1s,5s,1s")
    assert ladder.require([Tier(1), Tier(5), Tier(9)]) is ladder


def test_a_ladder_that_names_an_unconfigured_tier_is_refused_listing_the_known_ones() -> None:
    with pytest.raises(InvalidLadder) as refused:
        Ladder.parse("1s,7s,5s,7s,9s").require([Tier(5), Tier(1)])
    assert "names 7s, 9s," in str(refused.value)
    assert "configured tiers: 1s, 5s" in str(refused.value)
