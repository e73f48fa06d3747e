"""A bout: one fault, several times, on a field under load; then everything drains and is judged."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.faults.errors import DidNotBite
from tests.faults.fault import Fault
from tests.faults.field import Field
from tests.faults.kept import keep
from tests.faults.verdict import Verdict, Window, judge


async def bout(field: Field, fault: Fault, repeats: int, evidence: Path | None = None) -> tuple[Verdict, int]:
    """The verdict, and how often the fault had no effect and was struck again: such a strike is none of the repeats.
    Since nobody knows what it did, whatever came twice meanwhile is excused; nothing else is.

    Raises DidNotBite when that was so more often than in one of five and once, TimeoutError when the service does not
    recover. evidence: the directory in which it is kept.
    """
    field.forget()
    windows: list[Window] = []
    without_effect = 0
    async with field.load.flowing():
        await field.calm()
        while (bitten := len(windows) - without_effect) < repeats:
            began = time.time() * 1000
            try:
                windows.append(await fault.strike(field, bitten))
            except DidNotBite as error:
                without_effect += 1
                if without_effect > 1 + repeats // 5:
                    raise
                print(f"    {fault.name}: struck again, since it did not bite: {error}", file=sys.stderr, flush=True)
                await field.service.ready()
                windows.append(Window(began, ended := time.time() * 1000, ended))
            await field.calm()
    found = await field.drained(windows)
    if evidence is not None:
        await keep(evidence, fault.name, found)
    return judge(found), without_effect
