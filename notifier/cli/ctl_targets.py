"""Whom an operator means: `5s`, `tier:5s`, `all`, the name of any other group or slot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from notifier.domain.tier import Tier
from notifier.errors import BadAddress

ALL = "all"

_TIER = re.compile(r"(?:tier:)?(?P<delay>[0-9][0-9a-z]*)(?P<partition>\.[0-9]+)?")


def address(text: str) -> str:
    """As the master knows it: `90s` and `tier:90s` are `tier:1m30s`, `5s.2` is a partition of a tier.

    Raises InvalidTier for what begins like a tier and is none. Whether somebody has that name is not looked at.
    """
    said = text.strip()
    found = _TIER.fullmatch(said)
    if found is None:
        return said
    return f"tier:{Tier.parse(found['delay']).name}{found['partition'] or ''}"


def members(to: str, slots: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the slots of a status that an address means. Raises BadAddress, which lists those that there are."""
    named = [slot["slot"] for slot in slots if to == ALL or to in names(slot)]
    if not named:
        known = sorted({name for slot in slots for name in names(slot)})
        raise BadAddress(f"no process is called {to!r:.80}; there are {', '.join([ALL, *known])}")
    return named


def names(slot: Mapping[str, Any]) -> set[str]:
    """All names that a slot answers to, but for `all`."""
    return {slot["slot"], *slot["groups"]}


def covers(group: str, slot: Mapping[str, Any]) -> bool:
    """Whether what is set for a group is meant for this slot."""
    return group == ALL or group in names(slot)
