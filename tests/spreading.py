"""How the tests are dealt to the workers of pytest-xdist (`--dist worksteal`): the long ones first, in every worker.

Each worker begins with an equal part of the collected tests, in their order, and one that is done takes half of what
is left from the end of another's. So each part begins with whole modules that take long and end with many short
tests: those are what is taken, in the end all are done at about the same time, and what a module starts is started
once. A selection with few short ones is dealt less well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

#: Seconds that a test takes, roughly, by how its place begins; the first that fits counts. Elsewhere next to nothing.
SECONDS = (
    ("tests/acceptance/test_dev.py", 70.0),
    ("tests/acceptance/test_readme.py", 6.0),
    ("tests/acceptance/pages/", 2.5),
    ("tests/acceptance/", 4.0),
    ("tests/faults/test_faults_quick.py", 14.0),
    ("tests/contract/", 0.1),
    ("tests/integration/webhook/", 0.0),
    ("tests/integration/", 1.0),
)
#: Fixtures of a whole run that cost seconds: what needs one of them stays together.
COSTLY = ("own_node", "trade", "api")


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The same tests, so ordered that each worker's part begins with its share of the long ones, the longest first."""
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    short = []
    for item in items:
        (groups[_group(item)] if _seconds(item) else short).append(item)
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for _, group in sorted(groups.items(), key=lambda named: (-sum(map(_seconds, named[1])), named[0])):
        lightest = loads.index(min(loads))
        loads[lightest] += sum(map(_seconds, group))
        parts[lightest] += group
    ordered: list[pytest.Item] = []
    left = len(items)
    for number, part in enumerate(parts):
        size = left // (workers - number)
        filling = max(0, size - len(part))
        ordered += [*part, *short[:filling]]
        del short[:filling]
        left -= size
    return [*ordered, *short]


def _seconds(item: pytest.Item) -> float:
    return next((seconds for start, seconds in SECONDS if item.nodeid.startswith(start)), 0.0)


def _group(item: pytest.Item) -> str:
    """Its module, or what it shares with those of others."""
    wanted = getattr(item, "fixturenames", ())
    module = item.nodeid.partition("::")[0]
    if module == "tests/acceptance/test_ledger_http.py":  # its `api` is its own
        return module
    return next((name for name in COSTLY if name in wanted), module)
