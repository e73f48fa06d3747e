"""Whom an operator means."""

from __future__ import annotations

import re
from typing import Any

import pytest

from notifier.cli import ctl_targets
from notifier.errors import BadAddress, InvalidTier

SLOTS: list[dict[str, Any]] = [
    {"slot": "tier:5s.0", "groups": ["tier", "tier:5s"]},
    {"slot": "tier:5s.1", "groups": ["tier", "tier:5s"]},
    {"slot": "tier:1m30s", "groups": ["tier", "tier:1m30s"]},
    {"slot": "agent", "groups": ["agent"]},
]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("5s", "tier:5s"),
        ("tier:5s", "tier:5s"),
        (" 90s ", "tier:1m30s"),
        ("tier:90s", "tier:1m30s"),
        ("60m.2", "tier:1h.2"),
        ("tier:5s.0", "tier:5s.0"),
        ("all", "all"),
        ("any:tier", "any:tier"),
        ("agent", "agent"),
        ("tier", "tier"),
    ],
)
def test_a_tier_may_be_written_in_any_way_and_other_names_are_left_alone(text: str, address: str) -> None:
    assert ctl_targets.address(text) == address


@pytest.mark.parametrize("text", ["5", "5x", "tier:5s5s", "100d"])
def test_what_begins_like_a_tier_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidTier):
        ctl_targets.address(text)


@pytest.mark.parametrize(
    ("to", "named"),
    [
        ("all", ["tier:5s.0", "tier:5s.1", "tier:1m30s", "agent"]),
        ("tier", ["tier:5s.0", "tier:5s.1", "tier:1m30s"]),
        ("tier:5s", ["tier:5s.0", "tier:5s.1"]),
        ("tier:5s.1", ["tier:5s.1"]),
        ("agent", ["agent"]),
    ],
)
def test_an_address_means_the_slots_that_answer_to_it(to: str, named: list[str]) -> None:
    assert ctl_targets.members(to, SLOTS) == named


def test_an_address_that_nobody_answers_to_is_refused_with_those_that_there_are() -> None:
    told = "no process is called 'tier:7s'; there are all, agent, tier, tier:1m30s, tier:5s, tier:5s.0, tier:5s.1"
    with pytest.raises(BadAddress, match=re.escape(told)):
        ctl_targets.members("tier:7s", SLOTS)
