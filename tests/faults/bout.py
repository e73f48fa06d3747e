"""A bout: one fault, several times, on a field under load; then everything drains and is judged."""

from __future__ import annotations

from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.field import Field
from tests.faults.kept import keep
from tests.faults.verdict import Verdict, Window, judge


async def bout(field: Field, fault: Fault, repeats: int, evidence: Path | None = None) -> Verdict:
    """Raises DidNotBite when a repeat had no effect, TimeoutError when the service does not recover.

    evidence: the directory in which it is kept.
    """
    field.forget()
    windows: list[Window] = []
    async with field.load.flowing():
        await field.calm()
        for number in range(repeats):
            windows.append(await fault.strike(field, number))
            await field.calm()
    found = await field.drained(windows)
    if evidence is not None:
        await keep(evidence, fault.name, found)
    return judge(found)
