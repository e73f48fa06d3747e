"""`notifier topology`: queues and exchanges on the broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import typer

from notifier.broker.inspect import Look, QueueState, looking
from notifier.broker.kept_record import looked_at
from notifier.broker.pruning import Leaving, unused
from notifier.broker.record import Recorded
from notifier.broker.topology import Exchange, Queue, Topology
from notifier.cli import topology_change
from notifier.cli.options import AsJson
from notifier.cli.telling import Telling
from notifier.errors import NoBroker
from notifier.settings import Settings, load, without_password

_WIDE = 200

app = typer.Typer(add_completion=False)
app.command("partitions", short_help="change the number of work queues of each tier")(
    topology_change.partitions_command
)
app.command("prune", short_help="delete what is not used any more")(topology_change.prune_command)


@app.callback()
def group() -> None:
    """Queues and exchanges on the broker."""


@app.command(short_help="what stands on the broker, and how it differs")
def show(as_json: AsJson = False) -> None:
    """Show what the settings say should stand on the broker, and how it stands there. Changes nothing.

    A missing object is no fault: `notifier run` and `notifier enqueue` declare all of them whenever they connect, and
    the bindings between them, which a client cannot see. An object with other arguments is one: they refuse to start.

    Also what is recorded of the namespace: tiers that are in no ladder any more and queues of another number of
    partitions, which keep their processes until `notifier topology prune`.

    Exit code: 0, or 1 when something stands with other arguments.

    Examples:
      notifier topology show
      notifier topology show --json | jq '.queues[] | {name, ready, consumers}'
    """
    settings = load()
    if not settings.amqp_urls:
        raise NoBroker.named()
    Telling().listen()
    view = asyncio.run(_look(settings))
    if as_json:
        typer.echo(json.dumps(_as_json(settings, view), indent=2))
    else:
        _print(settings, view)
    if any(sight.difference for sight in view.seen.values()):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Sight:
    """One object as it was found. state: of queues that exist. difference: a sentence, or None."""

    exists: bool
    state: QueueState | None = None
    difference: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Everything that was looked at. topology: as it should be. seen: by name. left: what could be pruned."""

    topology: Topology
    recorded: Recorded
    seen: Mapping[str, Sight]
    left: Sequence[Leaving]


async def _look(settings: Settings) -> View:
    stated = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
    async with looking(settings.amqp_urls, "topology show", settings.connect_timeout) as look:
        recorded = await looked_at(look, settings.amqp_urls, stated, "topology show", settings.connect_timeout)
        topology = replace(stated, partitions=recorded.partitions or stated.partitions)
        left = unused(recorded, topology)
        objects: list[Exchange | Queue] = [*topology.exchanges, *topology.queues]
        objects += [queue for each in left for queue in each.queues]
        seen = {wanted.name: await _sight(look, wanted, topology) for wanted in objects}
    return View(topology, recorded, seen, left)


async def _sight(look: Look, wanted: Exchange | Queue, topology: Topology) -> Sight:
    state = await look.queue(wanted.name) if isinstance(wanted, Queue) else None
    exists = state is not None or (isinstance(wanted, Exchange) and await look.exchange(wanted.name))
    return Sight(exists, state, await look.difference(wanted, topology) if exists else None)


def _as_json(settings: Settings, view: View) -> dict[str, Any]:
    topology, seen = view.topology, view.seen

    def common(wanted: Exchange | Queue, kind: str) -> dict[str, Any]:
        sight = seen[wanted.name]
        return {
            "name": wanted.name,
            "kind": kind,
            "arguments": dict(wanted.arguments),
            "exists": sight.exists,
            "difference": sight.difference,
        }

    return {
        "broker": [without_password(url) for url in settings.amqp_urls],
        "namespace": topology.namespace,
        "delay": topology.mechanism,
        "tiers": [tier.name for tier in topology.tiers],
        "partitions": view.recorded.partitions,
        "recorded": {
            "tiers": [tier.name for tier in view.recorded.tiers],
            "partitions": list(view.recorded.had),
            "unfinished": list(view.recorded.numbers) if len(view.recorded.numbers) > 1 else None,
        },
        "unused": [
            {
                "name": each.name,
                "queues": [{**common(queue, "quorum"), **_counts(seen[queue.name].state)} for queue in each.queues],
            }
            for each in view.left
        ],
        "exchanges": [common(exchange, exchange.kind) for exchange in topology.exchanges],
        "queues": [{**common(queue, "quorum"), **_counts(seen[queue.name].state)} for queue in topology.queues],
        "bindings": [
            {"source": bound.source, "destination": bound.destination, "routing_key": bound.routing_key}
            for bound in topology.bindings
        ],
    }


def _counts(state: QueueState | None) -> dict[str, int | None]:
    return {"ready": state.ready if state else None, "consumers": state.consumers if state else None}


def _print(settings: Settings, view: View) -> None:
    topology, seen = view.topology, view.seen
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE  # a file or a pipe folds nothing
    address = ", ".join(without_password(url) for url in settings.amqp_urls)
    console.print(Text.assemble(("namespace ", "dim"), (topology.namespace, "bold"), ("  on ", "dim"), address))
    for line in _recorded(settings, view.recorded):
        console.print(Text(line, style="yellow"))
    console.print(Text("\nexchanges", style="bold"))
    console.print(_exchange_table(topology, seen))
    for title, queues in _groups(topology):
        shared = _shared(queues)
        console.print(Text(f"\n{title}", style="bold"))
        console.print(Text(_spelled(shared), style="dim"))
        console.print(_queue_table(queues, shared, seen))
    for each in view.left:
        console.print(Text(f"\n{each.name}: in no use any more", style="bold"))
        console.print(Text("served until it is empty; then: notifier topology prune", style="dim"))
        console.print(_queue_table(each.queues, _shared(each.queues), seen))
    left = {queue.name for each in view.left for queue in each.queues}
    seen = {name: sight for name, sight in seen.items() if name not in left or sight.difference}
    _print_verdict(console, seen)


def _groups(topology: Topology) -> Sequence[tuple[str, Sequence[Queue]]]:
    """Queues of one purpose together: they share nearly all of their arguments."""
    named = {queue.name: queue for queue in topology.queues}
    work = [named.pop(name) for tier in topology.tiers for name in topology.work_queues(tier)]
    wait = [named.pop(topology.wait_queue(tier)) for tier in topology.tiers if tier.seconds]
    return [
        ("waiting for a tier", wait),
        ("due, for the processes of a tier", work),
        *((_PURPOSES.get(name.rpartition(".")[2], ""), [queue]) for name, queue in named.items()),
    ]


def _recorded(settings: Settings, recorded: Recorded) -> Iterator[str]:
    """What is not as it should be between the record and the settings."""
    if len(recorded.numbers) > 1:
        numbers = " to ".join(map(str, recorded.numbers))
        yield f"a change of the number of partitions ({numbers}) was not finished: notifier topology partitions N"
    elif recorded.partitions not in (None, settings.partitions):
        yield (
            f"the namespace has {recorded.partitions} partitions, the settings say {settings.partitions}: "
            f"set NOTIFIER_PARTITIONS={recorded.partitions}, else notifier run does not start here"
        )


_PURPOSES = {"poison": "what could not be worked", "ledger": "facts, for the ledger"}


def _exchange_table(topology: Topology, seen: Mapping[str, Sight]) -> Any:
    table = _table(("", "", "type"), seen)
    for exchange in topology.exchanges:
        kind = " ".join([exchange.kind, _spelled(exchange.arguments)]).strip()
        table.add_row(exchange.name, _standing(seen[exchange.name]), "", "", kind)
    return table


def _shared(queues: Sequence[Queue]) -> Mapping[str, str | int]:
    first, *others = (queue.arguments for queue in queues)
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _queue_table(queues: Sequence[Queue], shared: Mapping[str, str | int], seen: Mapping[str, Sight]) -> Any:
    table = _table(("ready", "consumers", ""), seen)
    for queue in queues:
        sight = seen[queue.name]
        own = _spelled({name: value for name, value in queue.arguments.items() if name not in shared})
        counts = (f"{sight.state.ready:,}", f"{sight.state.consumers:,}") if sight.state else ("–", "–")
        table.add_row(queue.name, _standing(sight), *counts, own)
    return table


def _table(columns: tuple[str, str, str], seen: Mapping[str, Sight]) -> Any:
    """All tables have the same columns, so that they stand below one another as one."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    ready, consumers, last = columns
    table.add_column("", no_wrap=True, min_width=max(len(name) for name in seen))
    table.add_column("", no_wrap=True, min_width=7)
    table.add_column(ready, no_wrap=True, min_width=9, justify="right")
    table.add_column(consumers, no_wrap=True, min_width=9, justify="right")
    table.add_column(last, style="dim")
    return table


def _spelled(arguments: Mapping[str, str | int]) -> str:
    """`x-message-ttl: 1000` as `message-ttl 1000`."""
    return ", ".join(f"{name.removeprefix('x-')} {value or '(default)'}" for name, value in arguments.items())


def _standing(sight: Sight) -> Any:
    from rich.text import Text

    if not sight.exists:
        return Text("missing", style="yellow")
    return Text("differs", style="red") if sight.difference else Text("there", style="green")


def _print_verdict(console: Any, seen: Mapping[str, Sight]) -> None:
    from rich.text import Text

    missing = sum(not sight.exists for sight in seen.values())
    console.print()
    if missing:
        console.print(Text(f"{missing} of {len(seen)} missing: notifier run or enqueue declares them", style="yellow"))
    for sight in seen.values():
        if sight.difference:
            console.print(Text(sight.difference, style="red"))
    if not missing and not any(sight.difference for sight in seen.values()):
        console.print(Text(f"all {len(seen)} stand as they should", style="green"))
