"""How the tests are dealt to workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tests.spreading import dealt

LONG, SHORT = "tests/acceptance/test_{}.py::test_{}", "tests/unit/test_{}.py::test_{}"


def item(nodeid: str, *fixtures: str) -> Any:
    return cast(Any, SimpleNamespace(nodeid=nodeid, fixturenames=fixtures))


def test_each_worker_begins_with_whole_long_modules_and_each_test_is_dealt_once() -> None:
    long = [item(LONG.format(module, number)) for module in range(5) for number in range(module + 1)]
    short = [item(SHORT.format(module, number)) for module in range(4) for number in range(10)]
    order = [each.nodeid for each in dealt([*short, *long], 3)]
    assert sorted(order) == sorted(each.nodeid for each in (*long, *short))
    parts = [order[:18], order[18:36], order[36:]]  # of 55, as xdist deals them: 18, 18 and 19
    modules = [[nodeid.partition("::")[0] for nodeid in part if "acceptance" in nodeid] for part in parts]
    assert [len(part) for part in modules] == [5, 5, 5]
    assert [sorted(set(part)) for part in modules] == [
        ["tests/acceptance/test_4.py"],
        ["tests/acceptance/test_0.py", "tests/acceptance/test_3.py"],
        ["tests/acceptance/test_1.py", "tests/acceptance/test_2.py"],
    ]
    assert all("acceptance" in nodeid for part in parts for nodeid in part[:5]), "the long ones first"


def test_what_needs_a_costly_fixture_stays_together_and_more_long_ones_than_a_part_holds_are_dealt_too() -> None:
    nodes = [item(LONG.format(module, 0), "own_node") for module in range(4)]
    others = [item(LONG.format(module, 0)) for module in range(4, 6)]
    order = [each.nodeid for each in dealt([*others, *nodes], 2)]
    assert order == [each.nodeid for each in (*nodes, *others)]
