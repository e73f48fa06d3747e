"""The table of faults, in the order in which they are run and reported. A new one is a line here."""

from __future__ import annotations

from tests.acceptance.truth import free_port
from tests.faults import (
    of_broker,
    of_clocks,
    of_cluster,
    of_database,
    of_line,
    of_merchants,
    of_poison,
    of_processes,
    of_queues,
    of_resources,
    of_scripts,
    of_tiers,
)
from tests.faults.around import in_a_world, on_a_small_disk, on_postgresql, with_scripts
from tests.faults.fault import Fault
from tests.faults.service import TIERS

#: Notifications per second where no other fault runs beside it.
ALONE = 200
POINTS = ("before-callback", "during-callback", "before-fact", "before-republish", "before-ack")

FAULTS: tuple[Fault, ...] = (
    *(Fault(f"tier process: kill -9 {point.replace('-', ' ')}", of_tiers.killed_at(point)) for point in POINTS),
    Fault("tier process: kill -9 at any moment", of_tiers.killed_from_outside),
    Fault("master: kill -9", of_processes.master_killed),
    Fault("agent: kill -9", of_processes.agent_killed),
    Fault("api: kill -9", of_processes.api_killed, api=True, settings={"NOTIFIER_API__PORT": str(free_port())}),
    Fault("service: SIGTERM under load", of_processes.service_ended),
    Fault(
        "SIGSTOP 40 s: tier processes; master, agent", of_processes.stood_still(TIERS, ("master", "agent")), long=True
    ),
    Fault("broker: kill -9", of_broker.killed, long=True),
    Fault("broker: graceful restart", of_broker.restarted, long=True),
    Fault("broker: SIGSTOP 6 s, 25 s", of_broker.stood_still, long=True),
    Fault("broker: memory alarm", of_broker.memory_alarm),
    Fault("broker: disk alarm", of_broker.disk_alarm),
    Fault("line: reset", of_line.reset, through_line=True),
    Fault("line: half-open", of_line.half_open, through_line=True, long=True),
    Fault("line: slow", of_line.slow, through_line=True),
    Fault("line: cut inside a publish", of_line.cut_inside_a_publish, through_line=True),
    Fault("line: cut between publish and confirm", of_line.cut_before_a_confirm, through_line=True),
    Fault("wait queues at their length limit", of_queues.wait_queues_at_their_limit, long=True),
    Fault("work queue deleted", of_queues.work_queue_deleted),
    Fault("consumers cancelled", of_queues.consumers_cancelled, through_line=True),
    Fault("channel closed (exchange deleted)", of_queues.exchange_deleted),
    Fault("consumer timeout", of_queues.consumer_timeout),
    Fault("merchant: address that is not allowed", of_merchants.at_forbidden_addresses),
    Fault("merchant: three times its cap at once", of_merchants.crowded),
    Fault("poison: cannot be read", of_poison.cannot_be_read),
    Fault("poison: kills its process, 500 beside it", of_poison.killer, around=in_a_world, long=True),
    Fault("database: SQLite locked", of_database.locked),
    Fault("database: SQLite's disk full", of_database.disk_full, around=on_a_small_disk("NOTIFIER_STATE_DIR", 256)),
    Fault("database: PostgreSQL kill -9", of_database.killed, around=on_postgresql, long=True),
    Fault("database: PostgreSQL restarted", of_database.restarted, around=on_postgresql),
    Fault(
        "merchants: every script of notifier simulate",
        of_scripts.scripted,
        settings={**of_scripts.TIMEOUT, **of_scripts.ACK, "NOTIFIER_BREAKER__PAUSE": "4"},
        around=with_scripts(of_scripts.SCRIPTS),
        long=True,
    ),
    Fault("merchants: a tenth hangs", of_scripts.tenth_hangs, settings=of_scripts.TIMEOUT, long=True),
    Fault("merchants: all hang", of_scripts.all_hang, settings={**of_scripts.TIMEOUT, **of_scripts.SOON}, long=True),
    Fault(
        "merchants: names fail or hang",
        of_scripts.names_fail,
        settings=of_scripts.TIMEOUT,
        around=in_a_world,
        long=True,
    ),
    Fault("clock: one process an hour off", of_clocks.stepped, around=in_a_world),
    Fault("resources: no file descriptor left", of_resources.descriptors_used_up),
    Fault("resources: event loop blocked for 5 s", of_resources.loop_blocked, around=in_a_world),
    Fault(
        "resources: runtime directory full",
        of_resources.runtime_directory_full,
        around=on_a_small_disk("NOTIFIER_RUNTIME_DIR", 1),
    ),
    Fault("cluster of three: rolling restart", of_cluster.rolling_restart, cluster=True, per_second=ALONE),
    Fault("cluster of three: kill -9 of the leader's node", of_cluster.leader_killed, cluster=True, per_second=ALONE),
    Fault("cluster of three: kill -9 of two nodes", of_cluster.two_of_three_killed, cluster=True, per_second=ALONE),
)
