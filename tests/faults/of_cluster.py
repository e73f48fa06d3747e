"""Faults of a cluster of three: one node after the other restarted, the leader's killed, two of three away.

With RabbitMQ 3.10.8 the node that a queue was declared through leads it, so at first one node leads everything; and a
leader that was partitioned away, not killed, can come back to believe in a log of its own (server #7677, mended in
3.10.20): partitions are not tested here, deaths are.
"""

from __future__ import annotations

import asyncio
import time

from tests.faults.cluster import NAMES, ClusterUnderTest
from tests.faults.errors import DidNotBite
from tests.faults.field import Field
from tests.faults.of_broker import connections_lost, reconnected
from tests.faults.verdict import Window


async def rolling_restart(field: Field, number: int) -> Window:
    """Each node is stopped as an administrator does it and boots again, one after the other.

    What breaks is broken from the end of a node until publishes are confirmed on the other two: connections to it are
    lost, and the queues that it led have no leader. Its return breaks nothing: it follows leaders that there are, and
    nobody is connected to it. Whoever loses a connection then all the same has told so, and that moment counts.
    """
    cluster, lost, began = _cluster(field), field.service.told("broker.lost"), time.time() * 1000
    spans = []
    for name in NAMES:
        leaving = time.time() * 1000
        await cluster.end_node(name)
        await reconnected(field)
        spans.append((leaving, time.time() * 1000))
        await cluster.nodes[name].restart()
    await field.service.until_told("broker.lost", lost)
    ended = time.time() * 1000
    await reconnected(field)
    return Window(began, ended, time.time() * 1000, spans=(*spans, *connections_lost(field, began, ended)))


async def leader_killed(field: Field, number: int) -> Window:
    """kill -9 of the node that leads the first tier's work queue; it boots again.

    What breaks is broken until the other two have taken over. The return of the node breaks nothing, see above.
    """
    cluster = _cluster(field)
    leader, began = await cluster.leader(f"{field.namespace}.work.1s"), time.time() * 1000
    await cluster.nodes[leader].kill()
    await reconnected(field)  # on the other two
    taken_over = time.time() * 1000
    other = next(name for name in NAMES if name != leader)
    led = (await cluster.nodes[other].ctl("-q", "list_queues", "--no-table-headers", "name", "leader")).splitlines()
    if any(line.startswith(f"{field.namespace}.work.1s\t{leader}@") for line in led):
        raise DidNotBite(f"{leader} was killed and still leads")
    await cluster.nodes[leader].restart()
    ended = time.time() * 1000
    await reconnected(field)
    spans = ((began, taken_over), *connections_lost(field, began, ended))
    return Window(began, ended, taken_over, handing=True, spans=spans)


async def two_of_three_killed(field: Field, number: int) -> Window:
    """kill -9 of two nodes: the third has no majority and stops taking anything, until they boot again."""
    cluster, began = _cluster(field), time.time() * 1000
    gone = [NAMES[(number + place) % len(NAMES)] for place in (0, 1)]
    await asyncio.gather(*(cluster.nodes[name].kill() for name in gone))
    await asyncio.sleep(1.0)  # what was confirmed before is counted
    confirmed = sum(each.confirmed is not None for each in field.load.sent)
    await asyncio.sleep(3.0)  # without a majority nothing may be confirmed
    if sum(each.confirmed is not None for each in field.load.sent) > confirmed:
        raise DidNotBite("publishes were confirmed by one node of three")
    await asyncio.gather(*(cluster.nodes[name].restart() for name in gone))
    ended = time.time() * 1000
    await reconnected(field)
    # no spans: without a majority nothing is confirmed or settled, so what is in flight is so for all of it
    return Window(began, ended, time.time() * 1000, handing=True)


def _cluster(field: Field) -> ClusterUnderTest:
    assert isinstance(field.broker, ClusterUnderTest)
    return field.broker
