"""Which slots there are: those that are wanted, in their order, and those that finish and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from notifier.supervision.incarnation import Program
from notifier.supervision.slot import Slot, State


class Cast:
    """slots: all of them now. Each change makes a list of its own, since a round may be going through the last one.

    made: makes the slot of a program.
    """

    def __init__(self, programs: Sequence[Program], made: Callable[[Program], Slot]) -> None:
        self._made = made
        self._going: set[str] = set()
        self.slots: Sequence[Slot] = [made(program) for program in programs]

    def change(self, programs: Sequence[Program]) -> tuple[list[str], list[str]]:
        """From now on these are wanted: the names of the new slots, and of those that have to go.

        The others go on as they are; their next incarnations are started with what is given here.
        """
        before = {slot.name: slot for slot in self.slots}
        wanted = [before.get(program.slot) or self._made(program) for program in programs]
        for slot, program in zip(wanted, programs, strict=True):
            slot.renew(program)
            if slot.name in self._going:
                slot.restart("it is wanted again")
        names = {slot.name for slot in wanted}
        going = [slot for slot in self.slots if slot.name not in names]
        for slot in going:
            slot.hold()
        new = [slot.name for slot in wanted if slot.name not in before]
        gone = [slot.name for slot in going if slot.name not in self._going]
        self._going = {slot.name for slot in going}
        self.slots = [*wanted, *going]
        return new, gone

    def tidy(self) -> None:
        """Forget those that had to go and are over."""
        if self._going:
            over = {slot.name for slot in self.slots if slot.name in self._going and slot.state is State.STOPPED}
            self._going -= over
            self.slots = [slot for slot in self.slots if slot.name not in over]
