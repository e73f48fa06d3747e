"""The peers: task queues for Python on RabbitMQ, each with its own way to run a task after a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.errors import NoPeers

#: Of its own, since their dependencies are not ours.
ENVIRONMENT = Path(__file__).parent.parent / ".venv-peers"
_PACKAGES = ("celery", "dramatiq", "taskiq", "taskiq-aio-pika")
SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them, in one setting. script: in benchmarks/peers. worker: its own command, from the environment's bin.

    consumers: how many consume its queue once it is ready. queues: what the names of its queues have after the common
    beginning. settings: environment variables of worker and producer, which the script reads.
    """

    script: str
    worker: tuple[str, ...]
    consumers: int
    queues: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> list[str]:
        """What runs the tasks until SIGTERM."""
        program, *words = self.worker
        return [str(ENVIRONMENT / "bin" / program), *words]

    def producer(self, items: Path, rate: float, due: Path) -> list[str]:
        """What publishes the lines of `items`, so many a second, and writes the due moment of each id into `due`."""
        return [str(ENVIRONMENT / "bin" / "python"), str(SCRIPTS / self.script), str(items), str(rate), str(due)]


#: How many at once the wide settings allow, over all processes: twice as many as hang at the same time.
_WIDE = 600


def _celery(*worker: str) -> Peer:
    words = ("celery", "--app", "celery_peer", "--quiet", "worker", "--loglevel", "WARNING")
    return Peer("celery_peer.py", (*words, *worker), 1, ("",))


def _dramatiq(threads: int) -> Peer:
    words = ("dramatiq", "dramatiq_peer", "--processes", "2", "--threads", str(threads))
    return Peer("dramatiq_peer.py", words, 2, ("", ".DQ", ".XQ"))


def _taskiq(*worker: str, prefetch: int) -> Peer:
    words = ("taskiq", "worker", "taskiq_peer:broker", "--log-level", "WARNING", "--workers", "2")
    return Peer("taskiq_peer.py", (*words, *worker), 2, ("", ".delay", ".dead"), (("PEER_PREFETCH", str(prefetch)),))


#: Each with as much at once as it has by itself on two cores; then with as much as its documentation lets one ask for.
PEERS = {
    "celery": _celery("--concurrency", "2"),
    "dramatiq": _dramatiq(8),
    "taskiq": _taskiq(prefetch=10),
    "celery-wide": _celery("--pool", "threads", "--concurrency", str(_WIDE)),
    "dramatiq-wide": _dramatiq(_WIDE // 2),
    "taskiq-wide": _taskiq("--max-async-tasks", str(_WIDE // 2), prefetch=_WIDE // 2),
}


def require_installed() -> None:
    """Raise NoPeers if their environment is not there."""
    if not (ENVIRONMENT / "ready").exists():
        raise NoPeers(f"the peers are not installed in {ENVIRONMENT}: `make bench-peers` does it")


def versions(peers: Sequence[str]) -> dict[str, str]:
    """What is installed there, by package; nothing when no peer is measured."""
    libraries = [str(path) for path in ENVIRONMENT.glob("lib/python*/site-packages")] if peers else []
    found = {each.name: each.version for each in metadata.distributions(path=libraries)}
    return {name: found[name] for name in _PACKAGES if name in found}
