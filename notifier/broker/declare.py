"""Makes a topology stand on the broker. Declaring what stands already changes nothing."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace

from aiormq.channel import Channel
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, ChannelPreconditionFailed

from notifier import logs
from notifier.broker import record
from notifier.broker.topology import Binding, Exchange, Queue, Topology
from notifier.errors import BrokerError, DelayMechanismMissing, HashingMissing, NotifierError, TopologyConflict

#: A declare waits without bound on a dead link (FACTS §2); a quorum queue elects its leader in well under this.
_PATIENCE = 30.0

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for (?P<kind>\w+) '(?P<name>[^']+)' in vhost '[^']*': "
    r"received (?P<ours>.+?) but current is (?P<theirs>.+)$"
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>.*?)'(?: of type '.*')?")


async def declare(channel: Channel, topology: Topology) -> None:
    """Record the tiers of a topology and declare everything of it, in its order.

    The number of partitions is the recorded one, whatever the topology's: it is the namespace's, not a machine's.
    Raises TopologyConflict when an object stands with other arguments, DelayMechanismMissing or HashingMissing when
    an exchange type is unknown to the broker, BrokerError when it does not answer. The channel may be closed then.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            await _declare_as_recorded(channel, topology)
    except TimeoutError:
        raise BrokerError(
            f"the broker did not answer within {_PATIENCE:.0f} s while its queues were declared"
        ) from None
    except ChannelPreconditionFailed as error:
        raise explained(error, topology) from None
    except (AMQPError, ChannelInvalidStateError) as error:
        if "exchange type" in str(error):
            raise _missing(str(error)) from None
        raise


async def declare_one(channel: Channel, wanted: Exchange | Queue) -> None:
    """Declare one object. Raises what aiormq raises; the channel is closed then."""
    match wanted:
        case Exchange(name, kind, arguments):
            await channel.exchange_declare(name, exchange_type=kind, durable=True, arguments=dict(arguments))
        case Queue(name, arguments):
            await channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})


async def bind_one(channel: Channel, binding: Binding) -> None:
    """Make one binding. Raises what aiormq raises."""
    to, source, key = binding.destination, binding.source, binding.routing_key
    if binding.to_exchange:
        await channel.exchange_bind(destination=to, source=source, routing_key=key)
    else:
        await channel.queue_bind(to, source, routing_key=key)


async def unbind_one(channel: Channel, binding: Binding) -> None:
    """Take one binding away; a missing one is fine. Raises what aiormq raises, also for a missing source."""
    to, source, key = binding.destination, binding.source, binding.routing_key
    if binding.to_exchange:
        await channel.exchange_unbind(destination=to, source=source, routing_key=key)
    else:
        await channel.queue_unbind(to, source, routing_key=key)


async def _declare_as_recorded(channel: Channel, topology: Topology) -> None:
    """With the recorded number; if that was changed in the meantime, what was bound for the old one is taken back."""
    number = await record.number_of(channel, topology)
    await record.declare_exchanges(channel, topology)
    await record.note_tiers(channel, topology)
    actual = replace(topology, partitions=number or topology.partitions)
    await _declare(channel, actual, whole=number is not None)
    if number is None or await record.is_marked(channel, actual):
        return
    now = await record.number_of(channel, topology)
    stale = set(actual.to_work) - set(replace(topology, partitions=now or number).to_work)
    for binding in stale:
        await unbind_one(channel, binding)
    await _declare_as_recorded(channel, topology)


async def _declare(channel: Channel, topology: Topology, *, whole: bool) -> None:
    """whole: also what leads to the work queues, which counts as long as no change of the partitions is unfinished."""
    for exchange in topology.exchanges:
        await declare_one(channel, exchange)
    for queue in topology.queues:
        await declare_one(channel, queue)
    for binding in topology.bindings:
        if whole or binding not in topology.to_work:
            await bind_one(channel, binding)
    if not whole:
        logs.event(
            "topology.unfinished",
            logging.WARNING,
            hint="a change of the number of partitions was begun and not finished: notifier topology partitions N",
        )


def explained(error: ChannelPreconditionFailed, topology: Topology) -> NotifierError:
    """The broker's refusal of a declare, as an error that names object, argument, both values and the remedy."""
    said = str(error.args[0]) if error.args else str(error)
    if "exchange type" in said:
        return _missing(said)
    found = _INEQUIVALENT.search(said)
    if found is None:
        return TopologyConflict(f"the broker refuses an object of namespace {topology.namespace!r}: {said}")
    kind, name = found["kind"], found["name"]
    remedy = (
        f"Arguments never change between compatible versions: either another program owns this {kind} (then choose "
        "another NOTIFIER_NAMESPACE), or it was made by other means. To have it made again: stop every notifier of "
        f"the namespace, move or drain what is in it, then delete it (rabbitmqctl delete_queue {name})"
        if kind == "queue"
        else f"Choose another NOTIFIER_NAMESPACE, or stop every notifier of the namespace and delete this {kind}"
    )
    return TopologyConflict(
        f"{kind} {name} stands on the broker with another {found['argument']}: "
        f"notifier's is {_value(found['ours'])}, the broker's is {_value(found['theirs'])}. {remedy}."
    )


def _value(said: str) -> str:
    """The broker writes '5000', the value '5000' of type 'long', or none."""
    found = _VALUE.fullmatch(said.strip())
    return (found["value"] or "empty") if found else said.strip()


def _missing(said: str) -> NotifierError:
    if "x-consistent-hash" in said:
        return HashingMissing(HASHING_MISSING)
    return DelayMechanismMissing(
        'delay = "plugin", but this broker does not offer the exchange type x-delayed-message: enable the plugin '
        "rabbitmq_delayed_message_exchange on every node of it (brokers up to 4.2 can have it; deploy/ has an image), "
        "or set NOTIFIER_DELAY=native, which needs no plugin and keeps what waits through a crash"
    )


#: Why there can be no partitions, and what to do.
HASHING_MISSING = (
    "this broker does not offer the exchange type x-consistent-hash, which several partitions need. Its plugin comes "
    "with RabbitMQ and must be enabled on every node: rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"
)
