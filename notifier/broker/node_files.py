"""What a private RabbitMQ node owns: its directory, its ports, its cookie, its user, and the environment it runs in.

Nothing of it is the machine's: no port of a system's RabbitMQ or epmd, no file of /etc/rabbitmq, no cookie in a home.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_USER = "notifier"
#: Below the range from which Linux takes the local ports of outgoing connections, so that a port stays free.
_PORTS = range(20_000, 32_000)
_GIB = 1024**3
#: Milliseconds after which a wait queue hands over again what its work queue has not confirmed; RabbitMQ's default is 3
#: minutes. What meets a queue that is just starting, or between two leaders, is forgotten by 3.10.8 and waits for this,
#: 32 messages at a time; docs/reliability.md tells operators to set it.
DEAD_LETTER_PATIENCE = 10_000


@dataclass(frozen=True, slots=True)
class Ports:
    """Three ports on 127.0.0.1 that nobody listened on a moment ago."""

    amqp: int
    distribution: int
    epmd: int

    @classmethod
    def free(cls) -> Ports:
        """Three at random: two nodes that start at the same time hardly choose the same."""
        found: list[int] = []
        while len(found) < 3:
            port = random.choice(_PORTS)
            if port not in found and _is_free(port):
                found.append(port)
        return cls(*found)

    def taken(self) -> list[int]:
        """Those that somebody listens on now."""
        return [port for port in (self.amqp, self.distribution, self.epmd) if not _is_free(port)]


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """The files of one node below its directory, and the environment that keeps it there.

    large_log: leave the log of quorum queues at RabbitMQ's own size, 512 MB. A small one is recovered sooner and takes
    less of the disk, and every 20,000 messages or so it is written anew in a burst of a third of a second.
    """

    directory: Path
    ports: Ports
    plugins: tuple[str, ...]
    plugin_directories: tuple[Path, ...]
    large_log: bool = False
    _password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)

    @property
    def url(self) -> str:
        """The address of the node, with a user of its own."""
        return f"amqp://{_USER}:{self._password}@127.0.0.1:{self.ports.amqp}/"

    @property
    def pid_file(self) -> Path:
        """Where the Erlang VM writes its process id while it boots."""
        return self.directory / "pid"

    def write(self) -> None:
        """Make the directory, for its owner alone, and what must lie in it before the first boot."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("home", "log", "data"):
            (self.directory / name).mkdir()
        cookie = self.directory / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
        # names are looked up here alone: a bare system may have no /etc/hosts, and no resolver process is started
        (self.directory / "inetrc").write_text('{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n')
        (self.directory / "rabbitmq.conf").write_text(self._configuration())
        (self.directory / "advanced.config").write_text(
            f"[{{rabbit, [{{dead_letter_worker_publisher_confirm_timeout, {DEAD_LETTER_PATIENCE}}}]}}].\n"
        )

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The node's environment: of the inherited one only what neither RabbitMQ nor Erlang reads as a setting."""
        theirs = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "NOTIFIER_")
        kept = {name: value for name, value in inherited.items() if not name.startswith(theirs)}
        return kept | self._erlang() | self._rabbitmq() | {"HOME": str(self.directory / "home"), "LANG": "C.UTF-8"}

    def complaint(self, lines: int = 12) -> str:
        """What the node wrote last, its errors if there are any: for whoever must find out why it did not boot."""
        written = [line for name in ("console", "node.log") for line in self._log(name) if line.strip()]
        errors = list(dict.fromkeys(line for line in written if "[error]" in line))
        return "\n".join(errors[:lines] or written[-lines:]) or "(it wrote nothing)"

    def _erlang(self) -> dict[str, str]:
        return {
            # for every `erl`, also those that RabbitMQ starts by the way: no epmd but ours, nothing on other addresses
            "ERL_AFLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_INETRC": str(self.directory / "inetrc"),
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_MAX_PORTS": "16384",
        }

    def _rabbitmq(self) -> dict[str, str]:
        own = self.directory
        return {
            # with an address, since a short name would have to resolve in every tool that speaks to the node
            "RABBITMQ_NODENAME": "notifier@127.0.0.1",
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.ports.amqp),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",  # any free one
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            "RABBITMQ_MNESIA_BASE": str(own / "data"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_LOGS": str(own / "log" / "node.log"),
            "RABBITMQ_PID_FILE": str(self.pid_file),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(own / "rabbitmq-env.conf"),
            "RABBITMQ_PLUGINS_DIR": os.pathsep.join(map(str, self.plugin_directories)),
            "RABBITMQ_MAX_NUMBER_OF_PROCESSES": "131072",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S {min(4, os.cpu_count() or 1)}",
            # not bound to a core each, as is RabbitMQ's default: this node shares the cores with all that speaks to it,
            # and a bound scheduler waits for its own core while another one is idle
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # the script then becomes the VM instead of waiting for it: one process less, and its pid is the VM's
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _configuration(self) -> str:
        memory = min(2 * _GIB, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        return (
            f"default_user = {_USER}\n"
            f"default_pass = {self._password}\n"
            f"vm_memory_high_watermark.absolute = {memory}\n"
            "disk_free_limit.absolute = 50MB\n" + ("" if self.large_log else "raft.wal_max_size_bytes = 33554432\n")
        )

    def _log(self, name: str) -> list[str]:
        try:
            return (self.directory / "log" / name).read_text(errors="replace").splitlines()
        except OSError:
            return []


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
