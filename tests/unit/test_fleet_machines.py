"""Which machines there are, from what was heard of them and when."""

from __future__ import annotations

import pytest

from notifier.agent.machines import FORGOTTEN, MOST, Machines

#: instance: name, and when it was heard
History = list[tuple[float, str, str]]


def heard(history: History) -> Machines:
    machines = Machines()
    for moment, name, instance in history:
        machines.hear(name, instance, {"at": moment}, moment)
    return machines


@pytest.mark.parametrize(
    ("history", "now", "alive"),
    [
        ([], 0, []),
        ([(0, "b", "2"), (1, "a", "1")], 2, ["1", "2"]),
        ([(0, "a", "1")], FORGOTTEN, ["1"]),
        ([(0, "a", "1")], FORGOTTEN + 0.1, []),
        ([(0, "a", "1"), (15, "a", "1")], FORGOTTEN + 0.1, ["1"]),
        # started again: its former agent is silent from then on
        ([(0, "a", "1"), (1, "a", "2")], 2, ["2"]),
        ([(0, "a", "1"), (1, "a", "2"), (2, "a", "3")], 2, ["3"]),
        # two of the same name, both of which go on speaking
        ([(0, "a", "1"), (1, "a", "2"), (5, "a", "1")], 6, ["1", "2"]),
        ([(0, "a", "1"), (1, "a", "2"), (5, "a", "1"), (6, "a", "2")], 7, ["1", "2"]),
        # one of the two has ended
        ([(0, "a", "1"), (1, "a", "2"), (5, "a", "1")], 1 + FORGOTTEN + 0.1, ["1"]),
    ],
)
def test_alive_is_who_was_heard_of_late(history: History, now: float, alive: list[str]) -> None:
    assert [machine.instance for machine in heard(history).alive(now)] == alive


def test_the_newest_word_counts() -> None:
    (machine,) = heard([(0, "a", "1"), (3, "a", "1")]).alive(4)
    assert (machine.state, machine.met, machine.heard) == ({"at": 3}, 0, 3)


def test_who_says_goodbye_is_not_waited_for() -> None:
    machines = heard([(0, "a", "1"), (0, "b", "2")])
    machines.leave("1")
    machines.leave("1")
    assert [machine.name for machine in machines.alive(0)] == ["b"]


def test_the_memory_has_a_bound() -> None:
    machines = heard([(0, f"machine-{number}", str(number)) for number in range(MOST + 5)])
    assert len(machines.alive(0)) == MOST
