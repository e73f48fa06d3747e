"""`make faults-check`: bugs are planted one at a time, and the suite must fail on each, by the promise that it breaks.

    python -m tests.faults.check [--only BUG]…

A bug is a module in tests/faults/planted, patched in when the product's module is imported. The run is that of `make
faults`, with the faults that bring the bug to light. A run that fails for another reason has found nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PLANTED = Path(__file__).with_name("planted")
_PROJECT = Path(__file__).parents[2]
#: Seconds for everything to be drained: what a bug has lost never comes.
_DRAIN = "45"


@dataclass(frozen=True, slots=True)
class Bug:
    """module: in the directory of planted ones. fault: under which it shows. violation: the kind that must be found."""

    module: str
    fault: str
    repeats: int
    violation: str


BUGS = (
    Bug("ack_first", "kill -9 before fact", 2, "lost"),
    Bug("republish_unconfirmed", "wait queues at their length limit", 1, "lost"),
    Bug("short_ttl", "agent: kill -9", 1, "early"),
    Bug("ledger_not_idempotent", "line: cut between publish and confirm", 10, "untrue"),
    Bug("no_cap", "three times its cap at once", 1, "crowded"),
    Bug("guard_off", "address that is not allowed", 1, "strange"),
)


def found(bug: Bug, rows: list[dict[str, Any]]) -> bool:
    """Whether the rows of a run show the violation."""
    return any(said.startswith(f"{bug.violation}: ") for row in rows for said in row["violations"])


def _rows(bug: Bug | None, fault: str, repeats: int, per_second: str) -> list[dict[str, Any]]:
    """What a run with the bug, or none, says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_PLANTED), str(_PROJECT)])}
    if bug is not None:
        environment["PLANTED_BUG"] = bug.module
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows.json"
        command = ["-m", "tests.faults", "--only", fault, "--repeats", str(repeats), "--json", str(file)]
        command += ["--per-second", per_second, "--drain", _DRAIN]
        with subprocess.Popen([sys.executable, *command], env=environment, cwd=_PROJECT) as running:
            try:
                running.wait()
            except BaseException:
                running.terminate()  # it ends everything that it has started, and is waited for
                raise
        rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        return rows


def main() -> int:
    """Plant each; 1 when one was not found."""
    asked = argparse.ArgumentParser(prog="python -m tests.faults.check", description=__doc__.splitlines()[0])
    asked.add_argument("--only", action="append", default=[], help="bugs whose name contains this")
    asked.add_argument("--per-second", default="200", help="notifications per second")
    given = asked.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    missed = []
    for bug in BUGS:
        if given.only and not any(text in bug.module for text in given.only):
            continue
        print(f"=== planted: {bug.module} ===", flush=True)
        seen = found(bug, _rows(bug, bug.fault, bug.repeats, given.per_second))
        print(f"=== {bug.module}: {'found' if seen else 'NOT FOUND'} ===", flush=True)
        if not seen:
            missed.append(bug.module)
    print(f"{'all planted bugs were found' if not missed else 'not found: ' + ', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
