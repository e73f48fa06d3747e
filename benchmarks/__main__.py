"""`python -m benchmarks`: measure, print, and fail if anything was lost, doubled or early."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiormq.exceptions import AMQPError

from benchmarks import (
    api_figures,
    control_figures,
    isolation_figures,
    isolation_pairs,
    ledger_figures,
    machine,
    peer_sides,
    registry_figures,
    table,
)
from benchmarks.api import SECONDS, ApiRun
from benchmarks.api_figures import ApiFigures
from benchmarks.broker import Broker, open_broker
from benchmarks.control import PUSHES, RATE, ControlRun
from benchmarks.control_figures import ControlFigures
from benchmarks.isolation_figures import IsolationFigures
from benchmarks.ledger import LedgerRun
from benchmarks.ledger_figures import LedgerFigures
from benchmarks.peer_sides import PEERS
from benchmarks.receiver import Receiver, open_receiver
from benchmarks.registry import RegistryRun
from benchmarks.registry_figures import RegistryComparison
from benchmarks.run import Figures, Plan, Run
from benchmarks.sides import side
from notifier import logs
from notifier.errors import NotifierError

SIDES = ("notifier", "bare")
CONTROL = "control"
REGISTRY = "registry"
API = "api"
LEDGER = "ledger"
ISOLATION = "isolation"
#: Pairs, notifications a second and seconds, where the command line says nothing: of isolation, and of all else.
ISOLATED, USUAL = (5, 300, 40), (3, 200, 20)


@dataclass(frozen=True, slots=True)
class Measured:
    """The parts. pairs: by side name, empty if left out. all others: None if left out."""

    pairs: list[dict[str, Figures]]
    control: ControlFigures | None
    registry: RegistryComparison | None = None
    api: ApiFigures | None = None
    ledger: LedgerFigures | None = None
    isolation: IsolationFigures | None = None

    @property
    def others(self) -> float:
        """The largest share of the cores that others used during any run."""
        runs = [figures.others_share for pair in self.pairs for figures in pair.values()]
        parts = (self.control, self.registry, self.api, self.ledger, self.isolation)
        return max([*runs, *(part.others_share for part in parts if part is not None)])

    @property
    def by_side(self) -> dict[str, list[Figures]]:
        """Side name, then its figures, pair by pair."""
        return {name: [pair[name] for pair in self.pairs] for name in self.pairs[0]} if self.pairs else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; returns the exit code: 0 done, 1 failed, 2 usage, 78 configuration."""
    options = _options(arguments)
    logs.configure("error", "console", "bench")  # what ends a benchmark is said below
    try:
        return asyncio.run(_measure(options))
    except NotifierError as error:
        _say(str(error))
        return error.exit_code
    except AMQPError as error:
        _say(f"RabbitMQ failed meanwhile: {error}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("stopped; nothing was measured")
        return 130


async def _measure(options: argparse.Namespace) -> int:
    _cancel_on_sigterm()
    plan = _plan(options)
    began, quiet = datetime.now(UTC), await machine.look_around()
    for warning in filter(None, (quiet.warning, quiet.disk.warning)):
        _say(f"warning: {warning}")
    with tempfile.TemporaryDirectory(prefix="notifier-bench-") as name:
        directory = Path(name)
        (directory / "receiver").mkdir()
        async with open_receiver(directory / "receiver") as receiver:
            _say("waiting for RabbitMQ")
            async with open_broker() as broker:
                described = machine.description(broker.version, receiver.version) | peer_sides.versions(options.peers)
                pairs = await _pairs(options, plan, broker, receiver, directory)
                control = await _control(options, broker, receiver, directory)
                registry = await _registry(options, broker, receiver, directory)
                api = await _api(options, broker, receiver, directory)
                ledger = await _ledger(options, broker, receiver, directory)
                isolation = await _isolation(options, plan, broker, receiver, directory)
    measured = Measured(pairs, control, registry, api, ledger, isolation)
    _print(options, described, quiet, measured)
    if options.json:
        whole = _as_json(options, plan, began, described, quiet, measured)
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 1 if isolation is not None and not isolation.met else 0


async def _pairs(
    options: argparse.Namespace, plan: Plan, broker: Broker, receiver: Receiver, directory: Path
) -> list[dict[str, Figures]]:
    """The sides in turn, A B A B A B: what changes on the machine meanwhile changes for both."""
    token, pairs = secrets.token_hex(3), list[dict[str, Figures]]()
    if options.only not in (None, *SIDES):
        return pairs
    for number in range(1, options.pairs + 1):
        pair = {}
        for short in [options.only] if options.only else SIDES:
            name = f"{token}-{number}-{short}"
            measured = side(short, broker.url, f"bench-{name}")
            _say(f"pair {number} of {options.pairs}: {measured.name}")
            await broker.settle()
            pair[measured.name] = await Run(name, measured, plan, broker, receiver, directory / name).measure()
        pairs.append(pair)
    return pairs


async def _control(
    options: argparse.Namespace, broker: Broker, receiver: Receiver, directory: Path
) -> ControlFigures | None:
    """The control line, after the pairs."""
    if options.only not in (None, CONTROL):
        return None
    _say("control line")
    name = f"{secrets.token_hex(3)}-{CONTROL}"
    return await ControlRun(name, broker, receiver, directory / CONTROL).measure()


async def _registry(
    options: argparse.Namespace, broker: Broker, receiver: Receiver, directory: Path
) -> RegistryComparison | None:
    """Few merchants and many; only when asked for, since it starts a service sixteen times."""
    if options.only != REGISTRY:
        return None
    _say("registry")
    name = f"{secrets.token_hex(3)}-{REGISTRY}"
    return await RegistryRun(name, broker, receiver, directory / REGISTRY).measure()


async def _api(options: argparse.Namespace, broker: Broker, receiver: Receiver, directory: Path) -> ApiFigures | None:
    """Notifications over HTTP; only when asked for, since it takes two minutes and more."""
    if options.only != API:
        return None
    _say(f"HTTP API: {SECONDS:g} s in batches, {SECONDS:g} s one by one")
    return await ApiRun(f"{secrets.token_hex(3)}-{API}", broker, receiver, directory / API).measure()


async def _ledger(
    options: argparse.Namespace, broker: Broker, receiver: Receiver, directory: Path
) -> LedgerFigures | None:
    """Facts into SQLite; only when asked for."""
    if options.only != LEDGER:
        return None
    _say("ledger")
    return await LedgerRun(f"{secrets.token_hex(3)}-{LEDGER}", broker, receiver, directory / LEDGER).measure()


async def _isolation(
    options: argparse.Namespace, plan: Plan, broker: Broker, receiver: Receiver, directory: Path
) -> IsolationFigures | None:
    """Hanging merchants beside healthy ones; only when asked for, since it takes ten minutes and more."""
    if options.only != ISOLATION:
        return None
    pairs = isolation_pairs.IsolationPairs(plan, options.pairs, options.peers, broker, receiver, directory, _say)
    return await pairs.measure()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="notifier beside a bare loop, then its control line, counted by the receiver (nginx), on a private "
        "RabbitMQ node or on that of NOTIFIER_AMQP_URL. What each figure means: docs/benchmarks.md.",
    )
    parser.add_argument("--count", type=_at_least(1000), default=5000, help="notifications of the backlog (5000)")
    parser.add_argument("--pairs", type=_at_least(1), help="how often all sides are measured in turn (3; isolation: 5)")
    parser.add_argument("--rate", type=_at_least(1), help="notifications a second, steady part (200; isolation: 300)")
    parser.add_argument("--seconds", type=_at_least(1), help="length of the steady part (20; isolation: 40)")
    parser.add_argument(
        "--only",
        choices=(*SIDES, CONTROL, REGISTRY, API, LEDGER, ISOLATION),
        help="one part alone; registry, api, ledger and isolation only so",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=tuple(PEERS),
        metavar="PEER",
        help=f"beside isolation: the same for these task queues, for all of them without a name ({', '.join(PEERS)}); "
        "`make bench-peers` installs them",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything into a file, for programs")
    options = parser.parse_args(arguments)
    if options.peers is not None and options.only != ISOLATION:
        parser.error("--peers goes with --only isolation")
    options.peers = [] if options.peers is None else options.peers or list(PEERS)
    for name, usual in zip(("pairs", "rate", "seconds"), ISOLATED if options.only == ISOLATION else USUAL, strict=True):
        setattr(options, name, getattr(options, name) or usual)
    return options


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(options.count, options.rate, options.seconds)


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        if int(text) < least:
            raise ValueError
        return int(text)

    number.__name__ = f"whole number from {least:,} on"  # what argparse calls it in its errors
    return number


def _print(options: argparse.Namespace, described: dict[str, Any], quiet: machine.Quiet, measured: Measured) -> None:
    if options.only not in (LEDGER, ISOLATION):  # of which one delivers nothing, and the other not to all
        print("every notification arrived exactly once, counted by the receiver\n")
    if measured.pairs:
        print(
            f"pairs, in turn: {options.pairs}; each side: a backlog of {options.count:,}, then {options.rate} "
            f"a second for {options.seconds} s\n"
        )
        print(f"{table.table(measured.by_side)}\n")
    if measured.control is not None:
        print(f"{PUSHES} pushes to every tier process while {RATE} notifications a second come in; all applied each\n")
        print(f"{table.aligned(control_figures.rows(measured.control))}\n")
    if measured.registry is not None:
        print(f"{table.aligned(registry_figures.rows(measured.registry))}\n")
    if measured.api is not None:
        print(f"{table.aligned(api_figures.rows(measured.api))}\n")
    if measured.ledger is not None:
        print(f"{table.aligned(ledger_figures.rows(measured.ledger))}\n")
    if measured.isolation is not None:
        print(f"{isolation_pairs.sentence(_plan(options))}\n")
        print(f"{table.aligned(isolation_figures.rows(measured.isolation))}\n")
        for disturbed in measured.isolation.disturbed:
            print(f"{disturbed.sentence}\n")
    print("\n".join(f"{name.replace('_', ' '):<15} {value}" for name, value in described.items()))
    print(f"{'before':<15} {quiet.busy:.0%} of the cores in use, load {quiet.load:.2f}")
    print(f"{'disk':<15} {quiet.disk.sentence}")
    print(f"{'meanwhile':<15} others used at most {measured.others:.0%} of the cores during a run")
    print(f"{'command':<15} {_command(options)}")
    for warning in (quiet.warning, quiet.disk.warning, machine.disturbance(measured.others)):
        if warning:
            print(f"\nWARNING: {warning}")


def _as_json(
    options: argparse.Namespace,
    plan: Plan,
    began: datetime,
    described: dict[str, Any],
    quiet: machine.Quiet,
    measured: Measured,
) -> dict[str, Any]:
    return {
        "began": began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": _command(options),
        "plan": asdict(plan),
        "machine": described,
        "before": {**asdict(quiet), "warning": quiet.warning},
        "pairs": [{name: asdict(figures) for name, figures in pair.items()} for pair in measured.pairs],
        **table.summary(measured.by_side),
        "control": None if measured.control is None else control_figures.summary(measured.control),
        "registry": None if measured.registry is None else registry_figures.summary(measured.registry),
        "api": None if measured.api is None else api_figures.summary(measured.api),
        "ledger": None if measured.ledger is None else ledger_figures.summary(measured.ledger),
        "isolation": None if measured.isolation is None else isolation_figures.summary(measured.isolation),
    }


def _command(options: argparse.Namespace) -> str:
    """The command that measures this again."""
    words = ["python", "-m", "benchmarks", "--count", options.count, "--pairs", options.pairs]
    words += ["--rate", options.rate, "--seconds", options.seconds]
    if options.only:
        words += ["--only", options.only]
    if options.peers:
        words += ["--peers", *options.peers]
    return shlex.join(map(str, words))


def _cancel_on_sigterm() -> None:
    """SIGTERM ends everything in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
