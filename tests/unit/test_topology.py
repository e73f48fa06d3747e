"""Every name and argument of DESIGN §3, for both mechanisms: other programs rely on them."""

from __future__ import annotations

import pytest

from notifier.broker.topology import MOST_PARTITIONS, Binding, Exchange, Queue, Topology, Way, owned_names
from notifier.domain.tier import Tier
from notifier.settings import Settings

TIERS = (Tier(0), Tier(5), Tier(90), Tier(49 * 86_400))
NATIVE = Topology("notifier", TIERS)
PLUGIN = Topology("notifier", TIERS, "plugin")

TO_POISON = {
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "notifier.poison",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def waiting(tier: str, milliseconds: int) -> Queue:
    return Queue(
        f"notifier.wait.{tier}",
        {
            "x-message-ttl": milliseconds,
            "x-dead-letter-exchange": "notifier.work",
            "x-dead-letter-routing-key": tier,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def test_native_exchanges_are_the_fixed_ones() -> None:
    assert sorted(NATIVE.exchanges, key=lambda exchange: exchange.name) == [
        Exchange("notifier.control", "fanout"),
        Exchange("notifier.record"),
        Exchange("notifier.recorded", "fanout"),
        Exchange("notifier.wait", "direct"),
        Exchange("notifier.work", "direct"),
    ]


def test_the_plugin_adds_its_exchange_to_the_native_ones() -> None:
    assert PLUGIN.exchanges[: len(NATIVE.exchanges)] == NATIVE.exchanges
    assert PLUGIN.exchanges[len(NATIVE.exchanges) :] == (
        Exchange("notifier.delayed", "x-delayed-message", {"x-delayed-type": "direct"}),
    )


@pytest.mark.parametrize("topology", [NATIVE, PLUGIN], ids=["native", "plugin"])
def test_queues_are_the_fixed_ones_under_both_mechanisms(topology: Topology) -> None:
    assert topology.queues == (
        Queue("notifier.poison", {"x-delivery-limit": 1_000_000_000}),
        Queue("notifier.ledger", {"x-delivery-limit": 1_000_000_000, **TO_POISON}),
        Queue("notifier.work.0s", {"x-delivery-limit": 200, **TO_POISON}),
        Queue("notifier.work.5s", {"x-delivery-limit": 200, **TO_POISON}),
        Queue("notifier.work.1m30s", {"x-delivery-limit": 200, **TO_POISON}),
        Queue("notifier.work.49d", {"x-delivery-limit": 200, **TO_POISON}),
        waiting("5s", 5_000),
        waiting("1m30s", 90_000),
        waiting("49d", 4_233_600_000),
    )


def test_native_bindings_lead_every_tier_to_its_work_queue() -> None:
    assert set(NATIVE.bindings) == {
        *(Binding("notifier.work", f"notifier.work.{tier}", tier) for tier in ("0s", "5s", "1m30s", "49d")),
        *(Binding("notifier.wait", f"notifier.wait.{tier}", tier) for tier in ("5s", "1m30s", "49d")),
        Binding("notifier.wait", "notifier.work", "0s", to_exchange=True),
    }


def test_the_plugin_binds_its_exchange_to_the_work_exchange_for_every_tier_that_waits() -> None:
    assert set(PLUGIN.bindings) - set(NATIVE.bindings) == {
        Binding("notifier.delayed", "notifier.work", tier, to_exchange=True) for tier in ("5s", "1m30s", "49d")
    }
    assert set(NATIVE.bindings) <= set(PLUGIN.bindings)


@pytest.mark.parametrize("topology", [NATIVE, PLUGIN], ids=["native", "plugin"])
def test_work_is_declared_and_bound_before_wait(topology: Topology) -> None:
    def places(names: list[str], part: str) -> list[int]:
        return [place for place, name in enumerate(names) if part in name]

    queues = [queue.name for queue in topology.queues]
    assert max(places(queues, ".work.")) < min(places(queues, ".wait."))
    assert queues.index(topology.poison) < min(places(queues, ".work."))  # where work dead-letters to
    sources = [binding.source for binding in topology.bindings]
    assert max(places(sources, ".work")) < min(places(sources, ".wait"))
    exchanges = [exchange.name for exchange in topology.exchanges]
    assert exchanges.index(topology.work) < exchanges.index(topology.wait)


@pytest.mark.parametrize(
    ("topology", "tier", "way"),
    [
        (NATIVE, Tier(0), Way("notifier.work", "0s")),
        (NATIVE, Tier(5), Way("notifier.wait", "5s")),
        (NATIVE, Tier(90), Way("notifier.wait", "1m30s")),
        (PLUGIN, Tier(0), Way("notifier.work", "0s")),
        (PLUGIN, Tier(5), Way("notifier.delayed", "5s", {"x-delay": 5_000}, mandatory=False)),
        (PLUGIN, Tier(90), Way("notifier.delayed", "1m30s", {"x-delay": 90_000}, mandatory=False)),
        (PLUGIN, Tier(49 * 86_400), Way("notifier.delayed", "49d", {"x-delay": 4_233_600_000}, mandatory=False)),
    ],
)
def test_the_way_into_a_tier(topology: Topology, tier: Tier, way: Way) -> None:
    assert topology.way(tier) == way


def test_the_longest_delay_is_one_that_the_plugin_still_takes() -> None:
    """Beyond 2³²−1 ms it delivers at once, without an error (FACTS §1)."""
    assert PLUGIN.way(TIERS[-1]).headers["x-delay"] <= 2**32 - 1


@pytest.mark.parametrize("topology", [NATIVE, PLUGIN], ids=["native", "plugin"])
def test_no_queue_ever_expires_or_rejects_by_length(topology: Topology) -> None:
    """An expiring wait queue does not dead-letter, and a work queue that rejects stalls its tier (FACTS §1)."""
    arguments = {name for queue in topology.queues for name in queue.arguments}
    assert not arguments & {"x-expires", "x-max-length", "x-max-length-bytes"}


def test_another_namespace_shares_no_name() -> None:
    other = Topology("staging", TIERS, "plugin")
    ours, theirs = ({name for names in owned_names(topology) for name in names} for topology in (PLUGIN, other))
    assert not ours & theirs
    assert {name.split(".")[0] for name in theirs} == {"staging"}


def test_everything_that_is_declared_is_owned() -> None:
    queues, exchanges = owned_names(PLUGIN)
    assert list(queues) == [queue.name for queue in PLUGIN.queues]
    assert list(exchanges) == [*(exchange.name for exchange in PLUGIN.exchanges), "notifier.partitions.1"]


def test_partitions_have_one_consumer_each_and_a_hash_exchange_that_leads_to_them() -> None:
    three = Topology("notifier", (Tier(5),), partitions=3)
    alone = {"x-delivery-limit": 200, "x-single-active-consumer": True, **TO_POISON}
    assert [queue for queue in three.queues if ".work." in queue.name] == [
        Queue(f"notifier.work.5s.{number}", alone) for number in range(3)
    ]
    assert Exchange("notifier.work.5s.hash", "x-consistent-hash", {"hash-header": "merchant"}) in three.exchanges
    assert set(three.to_work) == {
        *(Binding("notifier.work.5s.hash", f"notifier.work.5s.{number}", "1") for number in range(3)),
        Binding("notifier.work", "notifier.work.5s.hash", "5s", to_exchange=True),
    }
    assert Binding("notifier.work", "notifier.work.5s", "5s") not in three.bindings
    assert three.way(Tier(5)) == Topology("notifier", (Tier(5),)).way(Tier(5))


def test_partitions_are_led_to_before_anything_leads_to_their_exchange() -> None:
    places = [binding.destination for binding in Topology("notifier", (Tier(5),), partitions=2).bindings]
    assert places.index("notifier.work.5s.1") < places.index("notifier.work.5s.hash") < places.index("notifier.wait.5s")


def test_the_setting_knows_the_most_partitions() -> None:
    assert Settings.model_fields["partitions"].metadata[1].le == MOST_PARTITIONS
