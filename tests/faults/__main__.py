"""`make faults`: every fault, so many times, judged; the table goes into docs/reliability.md.

    python -m tests.faults [--only TEXT]… [--repeats N] [--json FILE] [--page FILE] [--evidence DIR]

Exit code 1 when a promise was broken, or a fault did not bite.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from notifier.broker.node import PrivateNode
from tests.faults.bout import bout
from tests.faults.broker import BrokerUnderTest
from tests.faults.cluster import cluster
from tests.faults.fault import Fault
from tests.faults.field import DRAIN, PER_SECOND, standing
from tests.faults.report import Row, as_json, between_markers, markdown, merged, read
from tests.faults.table import FAULTS

#: Faults at a time, by default: most of a fault is waiting.
LANES = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """repeats: of each fault; None for what the table of faults says. per_second: of each service, where its fault
    names no other. drain: seconds for everything to be drained at the end. evidence: the directory in which that of
    each fault is kept.
    """

    repeats: int | None = None
    per_second: int = PER_SECOND
    drain: float = DRAIN
    evidence: Path | None = None


async def run(
    faults: Sequence[Fault], terms: Terms, lanes: int = 1, judged: Callable[[Row], None] = lambda row: None
) -> list[Row]:
    """One row per fault, each with a service of its own. judged: hears of each row when it is there.

    lanes: faults at a time, each lane on a broker that its last one left whole. Those of a cluster have the machine to
    themselves.
    """
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)  # everything started is ended first
    rows: list[Row] = []
    if of_cluster := [fault for fault in faults if fault.cluster]:
        async with cluster() as nodes:
            for fault in of_cluster:
                rows.append(await _timed(nodes, fault, terms))
                judged(rows[-1])
    left = iter(sorted((fault for fault in faults if not fault.cluster), key=lambda fault: not fault.long))

    async def lane() -> None:
        async with contextlib.AsyncExitStack() as stack:
            broker = None
            for fault in left:
                broker = broker or await stack.enter_async_context(_single())
                row = await _timed(broker, fault, terms)
                rows.append(row)
                judged(row)

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane())
    return rows


async def _timed(broker: BrokerUnderTest, fault: Fault, terms: Terms) -> Row:
    began, per_second = time.monotonic(), fault.per_second or terms.per_second
    row = await _row(broker, fault, terms.repeats or fault.repeats, per_second, terms)
    took = round(time.monotonic() - began, 1)
    row = replace(row, per_second=per_second, day=f"{datetime.now(UTC):%Y-%m-%d}", took=took)
    _tell(row)
    return row


@contextlib.asynccontextmanager
async def _single() -> AsyncIterator[BrokerUnderTest]:
    async with await PrivateNode.start(plugin=False) as node:
        yield BrokerUnderTest(node)


async def _row(broker: BrokerUnderTest, fault: Fault, repeats: int, per_second: int, terms: Terms) -> Row:
    print(f"{fault.name} × {repeats} …", file=sys.stderr, flush=True)
    try:
        async with standing(
            broker,
            through_line=fault.through_line,
            api=fault.api,
            settings=fault.settings,
            per_second=per_second,
            around=fault.around,
            drain=terms.drain,
        ) as field:
            return Row.of(fault.name, repeats, *await bout(field, fault, repeats, terms.evidence))
    except Exception as error:  # the others are still worth knowing
        traceback.print_exc()
        return Row.unjudged(fault.name, f"{type(error).__name__}: {error}")


def _tell(row: Row) -> None:
    print(
        f"  {row.fault}: {'good' if row.good else 'FAILED'}: sent {row.sent}, lost {row.lost}, early {row.early}, "
        f"duplicated {row.duplicated}, held {row.held}, "
        f"recovered p50 {row.recover_p50:.1f} s, max {row.recover_max:.1f} s; took {row.took:.0f} s"
        f"{f', {row.struck_again} struck again' if row.struck_again else ''}",
        file=sys.stderr,
        flush=True,
    )
    for said in [*row.violations, *([row.problem] if row.problem else [])]:
        print(f"    {said}", file=sys.stderr, flush=True)


def _chosen(texts: Sequence[str], but: Sequence[str]) -> list[Fault]:
    named = [fault for fault in FAULTS if not texts or any(text in fault.name for text in texts)]
    return [fault for fault in named if not any(text in fault.name for text in but)]


def main() -> int:
    """Run what was asked for."""
    asked = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    asked.add_argument("--only", action="append", default=[], help="faults whose name contains this")
    asked.add_argument("--repeats", type=int, help="of each fault; what the table of faults says otherwise")
    asked.add_argument("--per-second", type=int, default=PER_SECOND, help="notifications per second, for each service")
    asked.add_argument("--drain", type=float, default=DRAIN, help="seconds for everything to be drained at the end")
    asked.add_argument("--lanes", type=int, default=LANES, help="faults at a time, each with a service of its own")
    asked.add_argument("--not", action="append", default=[], dest="not_", help="none whose name contains this")
    asked.add_argument("--json", type=Path, help="where the rows go, beside those of faults that are not run")
    asked.add_argument("--page", type=Path, help="the page that gets the table between its markers")
    asked.add_argument("--evidence", type=Path, help="the directory in which the evidence of each fault is kept")
    given = asked.parse_args()
    if given.evidence:
        given.evidence.mkdir(parents=True, exist_ok=True)
    for name in [name for name in os.environ if name.startswith("NOTIFIER_")]:
        del os.environ[name]  # settings of the developer must not change what is tested
    logging.getLogger("notifier").setLevel(logging.CRITICAL)  # what the load meets is no news
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    table = read(given.json.read_text()) if given.json and given.json.exists() else []

    def judged(row: Row) -> None:
        """It is kept at once: a run takes long."""
        nonlocal table
        table = merged(table, [row], [fault.name for fault in FAULTS])
        if given.json:
            given.json.write_text(json.dumps(as_json(table), indent=1) + "\n")

    terms = Terms(given.repeats, given.per_second, given.drain, given.evidence)
    try:
        rows = asyncio.run(run(_chosen(given.only, given.not_), terms, given.lanes, judged))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    print(markdown(table))
    if given.page:
        given.page.write_text(between_markers(given.page.read_text(), markdown(table)))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
