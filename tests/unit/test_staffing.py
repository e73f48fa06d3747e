"""Which processes a service has, by its settings and by what the namespace ever had."""

from __future__ import annotations

import json

import pytest

from notifier.broker.pruning import unused
from notifier.broker.record import Recorded
from notifier.broker.topology import Topology
from notifier.domain.tier import Tier
from notifier.errors import ConfigurationError
from notifier.processes.service import Cast, master_of
from notifier.processes.staffing import Post, Staffing
from notifier.settings import Settings, load

ONE, THREE, FIVE = Tier(1), Tier(3), Tier(5)


def slots(staffing: Staffing, configured: tuple[Tier, ...], chosen: tuple[Tier, ...] | None = None) -> list[str]:
    return [post.slot + ("*" if post.retired else "") for post in staffing.posts(configured, chosen)]


@pytest.mark.parametrize(
    ("staffing", "configured", "chosen", "expected"),
    [
        pytest.param(Staffing((ONE, THREE), 1), (ONE, THREE), None, "1s 3s", id="as configured"),
        pytest.param(Staffing((ONE, THREE, FIVE), 1), (ONE,), None, "1s 3s* 5s*", id="retired tiers"),
        pytest.param(Staffing((ONE,), 1), (ONE, THREE), None, "1s 3s", id="not recorded yet"),
        pytest.param(Staffing((ONE,), 2), (ONE,), None, "1s.0 1s.1", id="partitions"),
        pytest.param(Staffing((ONE,), 2, (None, 2)), (ONE,), None, "1s.0 1s.1 1s* 1s.2*", id="partitions of before"),
        pytest.param(Staffing((ONE,), 1, (0, 1)), (ONE,), None, "1s 1s.0* 1s.1*", id="back to none"),
        pytest.param(Staffing((ONE, THREE), 2, (None,)), (ONE,), None, "1s.0 1s.1 1s* 3s.0* 3s.1* 3s*", id="both"),
        pytest.param(
            Staffing((ONE, THREE), 1, (0,), ("tier:3s", "tier:1s.0")), (ONE,), None, "1s 3s.0*", id="what is leaving"
        ),
        pytest.param(Staffing((ONE,), 1, (), ("tier:1s",)), (ONE,), None, "1s", id="what is configured never leaves"),
        pytest.param(
            Staffing((ONE, THREE, FIVE), 2, (None,)), (ONE, THREE), (THREE,), "3s.0 3s.1 3s*", id="chosen tiers"
        ),
    ],
)
def test_every_queue_that_may_hold_something_has_a_process(
    staffing: Staffing, configured: tuple[Tier, ...], chosen: tuple[Tier, ...] | None, expected: str
) -> None:
    assert slots(staffing, configured, chosen) == [f"tier:{name}" for name in expected.split()]


def test_a_staffing_travels_as_json() -> None:
    staffing = Staffing((ONE, Tier(90)), 4, (None, 5), ("tier:5s",))
    assert Staffing.read(json.loads(json.dumps(staffing.word()))) == staffing


def test_a_post_is_called_as_operators_call_it() -> None:
    assert (Post(Tier(90), None, False).slot, Post(FIVE, 2, False).name) == ("tier:1m30s", "5s.2")


@pytest.mark.parametrize(
    ("had", "now", "old"),
    [
        ((1,), 1, ()),
        ((1, 4), 4, (None,)),
        ((1, 4), 1, (0, 1, 2, 3)),
        ((1, 2, 4), 2, (None, 2, 3)),
        ((2, 4), 4, ()),
        ((2, 4), 2, (2, 3)),
        ((4,), 4, ()),
    ],
)
def test_partitions_of_before_are_all_that_no_number_leads_to_now(
    had: tuple[int, ...], now: int, old: tuple[int | None, ...]
) -> None:
    assert Recorded((), had, (now,)).partitions_of_old(now) == old


@pytest.mark.parametrize(("numbers", "certain"), [((), None), ((4,), 4), ((1, 4), None)])
def test_a_number_is_certain_if_there_is_exactly_one(numbers: tuple[int, ...], certain: int | None) -> None:
    assert Recorded((), (), numbers).partitions == certain


def test_what_may_be_pruned_is_whole_tiers_and_all_partitions_of_before_together() -> None:
    topology = Topology("n", (ONE,), partitions=2)
    tier, before = unused(Recorded((Tier(0), ONE), (1, 2), (2,)), topology)
    assert (tier.name, tier.slots) == ("tier 0s", ["tier:0s.0", "tier:0s.1", "tier:0s"])
    assert [queue.name for queue in tier.queues] == ["n.work.0s.0", "n.work.0s.1", "n.work.0s"]
    assert (before.tier, before.slots) == (None, ["tier:0s", "tier:1s"])
    assert [queue.name for queue in before.queues] == ["n.work.0s", "n.work.1s"]


def test_nothing_may_be_pruned_while_the_number_is_not_certain() -> None:
    assert unused(Recorded((FIVE,), (1, 2), (1, 2)), Topology("n", (ONE,))) == []


def settings(**more: str) -> Settings:
    return load({"amqp_url": "amqp://localhost/", "ladder": "1s,3s", **more}, environment={})


def test_the_master_takes_the_word_of_the_record_for_all_programs() -> None:
    master = master_of(settings(), Cast(api=False), signals=())
    assert [slot.name for slot in master.slots] == ["tier:1s", "tier:3s", "agent"]
    word = Staffing((ONE, THREE, FIVE), 2, (None,)).word()
    assert master.recast(word)["new"] == [
        *("tier:1s.0", "tier:1s.1", "tier:3s.0", "tier:3s.1", "tier:5s.0", "tier:5s.1", "tier:5s")
    ]
    programs = {slot.name: slot.program for slot in master.slots}
    assert programs["tier:1s.1"].argv[-4:] == ("--tier", "1s", "--partition", "1")
    assert programs["tier:1s.1"].groups == ("tier", "tier:1s")
    assert {program.boot["settings"]["partitions"] for program in programs.values()} == {2}
    assert not any(program.boot["unstaffed"] for program in programs.values())  # what is started now does not judge
    assert [name for name, program in programs.items() if program.boot.get("retired")] == [
        *("tier:1s", "tier:3s", "tier:5s.0", "tier:5s.1", "tier:5s")
    ]
    assert master.recast(Staffing((ONE, THREE), 2).word())["gone"] == [
        *("tier:1s", "tier:3s", "tier:5s.0", "tier:5s.1", "tier:5s")
    ]


@pytest.mark.parametrize(("agent", "watching"), [(True, []), (False, ["tier:1s"])])
def test_one_process_watches_the_record(agent: bool, watching: list[str]) -> None:
    master = master_of(settings(), Cast(agent=agent, api=False), signals=())
    assert [slot.name for slot in master.slots if slot.program.boot.get("watch")] == watching


def test_strict_order_needs_partitions() -> None:
    with pytest.raises(ConfigurationError, match=r"strict_order: .*set partitions \(NOTIFIER_PARTITIONS\) to 2"):
        settings(strict_order="true")
    assert settings(strict_order="true", partitions="2").strict_order
