"""What the doctor says of partitions, by what is recorded and what the broker offers."""

from __future__ import annotations

import re

import pytest

from notifier.broker.record import Recorded
from notifier.broker.topology import Topology
from notifier.cli.doctor_partitions import _number, _unused
from notifier.domain.tier import Tier
from notifier.settings import load


@pytest.mark.parametrize(
    ("partitions", "numbers", "hashing", "level", "said"),
    [
        (1, (), True, None, ""),
        (1, (1,), True, None, ""),
        (4, (4,), True, "ok", "4 work queues for each tier"),
        (2, (), False, "fail", "rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"),
        (2, (3,), True, "fail", "the namespace has 3, the settings say 2"),
        (1, (3,), True, "fail", "the namespace has 3, the settings say 1"),
        (1, (1, 4), True, "fail", r"\(1 to 4\) was begun and not finished"),
    ],
)
def test_it_finds(partitions: int, numbers: tuple[int, ...], hashing: bool, level: str | None, said: str) -> None:
    settings = load({"partitions": partitions}, environment={})
    found = _number(settings, Recorded((), (), numbers), hashing)
    assert [finding.level for finding in found] == ([] if level is None else [level])
    for finding in found:
        assert finding.said
        assert re.search(said, finding.said)
        assert finding.level == "ok" or finding.remedy


def test_it_names_what_is_in_no_use_any_more() -> None:
    (finding,) = _unused(Recorded((Tier(1), Tier(5)), (1,), (1,)), Topology("n", (Tier(1),)))
    assert (finding.level, "tier 5s" in finding.said, "topology prune" in finding.said) == ("ok", True, True)
