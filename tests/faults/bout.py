"""A bout: one fault, several times, on a field under load; then everything drains and is judged."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.field import Field
from tests.faults.verdict import Verdict, Window, judge


async def bout(field: Field, fault: Fault, repeats: int) -> Verdict:
    """Raises DidNotBite when a repeat had no effect, TimeoutError when the service does not recover."""
    field.forget()
    windows: list[Window] = []
    async with field.load.flowing():
        await field.calm()
        for number in range(repeats):
            windows.append(await fault.strike(field, number))
            await field.calm()
    return judge(await field.drained(windows))
