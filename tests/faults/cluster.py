"""A cluster of three private nodes on this machine, made before anything is declared on it."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from notifier.broker.installation import epmd, installed, plugin_directories
from notifier.broker.node import PrivateNode
from notifier.broker.node_files import NodeFiles, Ports
from notifier.errors import BrokerError
from tests.faults.broker import BrokerUnderTest, ended

#: Seconds for a node to boot while two others do their work on the same two cores.
_BOOT = 120.0
NAMES = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class _MemberFiles(NodeFiles):
    """Files of one node that shares cookie, port mapper and users with the others."""

    name: str = ""
    cookie: str = ""

    def write(self) -> None:
        super(_MemberFiles, self).write()
        cookie = self.directory / "home" / ".erlang.cookie"
        cookie.chmod(0o600)
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)
        first = "".join(
            f"cluster_formation.classic_config.nodes.{place} = {name}@127.0.0.1\n"
            for place, name in enumerate(NAMES, start=1)
        )
        with (self.directory / "rabbitmq.conf").open("a") as conf:
            conf.write(
                "cluster_formation.peer_discovery_backend = classic_config\n"
                f"{first}"
                "cluster_partition_handling = pause_minority\n"
                "net_ticktime = 10\n"
            )

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        return super(_MemberFiles, self).environment(inherited) | {"RABBITMQ_NODENAME": f"{self.name}@127.0.0.1"}


class ClusterUnderTest(BrokerUnderTest):
    """Three nodes. The first one answers for all where no other is named."""

    def __init__(self, nodes: Sequence[PrivateNode]) -> None:
        super().__init__(nodes[0])
        self.nodes = dict(zip(NAMES, nodes, strict=True))

    @property
    def url(self) -> str:
        """All three, to be tried in turn."""
        return ",".join(node.url for node in self.nodes.values())

    async def settled(self) -> None:
        for node in self.nodes.values():
            await node.write_queue_names()

    async def leader(self, queue: str) -> str:
        """The name of the node that leads a queue."""
        told = await self.ctl("-q", "list_queues", "--no-table-headers", "name", "leader")
        for line in told.splitlines():
            name, _, leader = line.partition("\t")
            if name == queue:
                return leader.split("@")[0]
        raise BrokerError(f"nobody leads {queue}: {told}")

    async def end_node(self, name: str) -> None:
        """As an administrator ends one node."""
        await ended(self.nodes[name])


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[ClusterUnderTest]:
    """Three nodes that know each other, for the length of the block."""
    scripts, mapper = installed(), epmd()
    if scripts is None or mapper is None:
        raise BrokerError("no RabbitMQ is installed to make a cluster of")
    shared = Ports.free()
    secret, cookie = secrets.token_hex(12), secrets.token_hex(16)
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name in NAMES:
            directory = Path(tempfile.gettempdir()) / f"notifier-rabbitmq-{secrets.token_hex(6)}"
            files = _MemberFiles(
                directory,
                replace(Ports.free(), epmd=shared.epmd),
                ("rabbitmq_consistent_hash_exchange",),
                plugin_directories(scripts, os.environ),
                _password=secret,
                name=name,
                cookie=cookie,
            )
            node = PrivateNode(scripts, files, _BOOT)
            stack.push_async_callback(node.stop)
            await node._start(mapper)
            nodes.append(node)
        made = ClusterUnderTest(nodes)
        told = await made.ctl("eval", "length(rabbit_nodes:all_running()).")
        if told.strip() != str(len(NAMES)):
            raise BrokerError(f"{told.strip()} of {len(NAMES)} nodes have found each other")
        yield made
