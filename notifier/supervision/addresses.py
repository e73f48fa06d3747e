"""Whom a message is for. Pure; the caller brings the chance.

all · others (all but the sender) · any (one of all) · any:GROUP · the name of a group · the name of a slot
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from notifier.errors import BadAddress
from notifier.supervision.slot import Slot


def resolve(to: str, slots: Sequence[Slot], sender: str, choose: Callable[[Sequence[Slot]], Slot]) -> list[Slot]:
    """The slots addressed, in their order. A name of a group goes before the same name of a slot.

    sender: the name of a slot, or another name for somebody outside. choose: picks one of several; with `any`, of those
    that work, if there are some. Raises BadAddress, which names those that there are.
    """
    if to == "all":
        return list(slots)
    if to == "others":
        return [slot for slot in slots if slot.name != sender]
    word, _, group = to.partition(":")
    if word == "any":
        members = _named(group, slots, to) if group else list(slots)
        return [choose([slot for slot in members if slot.is_working] or members)] if members else []
    return _named(to, slots, to)


def _named(name: str, slots: Sequence[Slot], to: str) -> list[Slot]:
    members = [slot for slot in slots if name in slot.program.groups]
    members = members or [slot for slot in slots if slot.name == name]
    if not members:
        known = sorted({name for slot in slots for name in (slot.name, *slot.program.groups)})
        raise BadAddress(
            f"nobody is called {to!r}; there are all, others, any, any:GROUP, and {', '.join(known) or 'no slots'}"
        )
    return members
