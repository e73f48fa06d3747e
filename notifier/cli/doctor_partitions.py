"""What `notifier doctor` finds out about partitions: whether there can be any, and what the namespace's record says."""

from __future__ import annotations

from notifier.broker import declare, probe
from notifier.broker.inspect import looking
from notifier.broker.kept_record import looked_at
from notifier.broker.pruning import unused
from notifier.broker.record import Recorded
from notifier.broker.topology import Topology
from notifier.cli.checks import Finding
from notifier.errors import NotifierError
from notifier.settings import Settings


async def partitions(settings: Settings, url: str, patience: float) -> list[Finding]:
    """Nothing to say where there are none and never were."""
    topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
    try:
        async with looking([url], "doctor", patience) as look:
            recorded = await looked_at(look, [url], topology, "doctor", patience)
        hashing = settings.partitions == 1 or await probe.hashing(url, settings.namespace, patience)
    except NotifierError as error:
        return [Finding("partitions", "warn", str(error), "notifier topology show")]
    return [*_number(settings, recorded, hashing), *_unused(recorded, topology)]


def _number(settings: Settings, recorded: Recorded, hashing: bool) -> list[Finding]:
    if not hashing:
        enable = "rabbitmq-plugins enable rabbitmq_consistent_hash_exchange, or NOTIFIER_PARTITIONS=1"
        return [Finding("partitions", "fail", declare.HASHING_MISSING, enable)]
    if len(recorded.numbers) > 1:
        numbers = " to ".join(map(str, recorded.numbers))
        said = f"a change of their number ({numbers}) was begun and not finished"
        return [Finding("partitions", "fail", said, "notifier topology partitions N finishes it")]
    if recorded.partitions not in (None, settings.partitions):
        return [
            Finding(
                "partitions",
                "fail",
                f"the namespace has {recorded.partitions}, the settings say {settings.partitions}",
                f"set NOTIFIER_PARTITIONS={recorded.partitions}, or change it for all machines: "
                f"notifier topology partitions {settings.partitions}",
            )
        ]
    if settings.partitions == 1:
        return []
    order = ", each merchant's in strict order" if settings.strict_order else ""
    return [Finding("partitions", "ok", f"{settings.partitions} work queues for each tier{order}")]


def _unused(recorded: Recorded, topology: Topology) -> list[Finding]:
    left = ", ".join(each.name for each in unused(recorded, topology))
    if not left:
        return []
    said = f"in no use any more, served until they are empty: {left}"
    return [Finding("unused", "ok", f"{said} (notifier topology prune deletes them)")]
