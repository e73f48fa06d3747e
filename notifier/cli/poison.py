"""`notifier poison`: messages that could not be worked. Their fault is ours or a producer's, no merchant's."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from notifier.broker.inspect import looking
from notifier.broker.poison import Poisoned
from notifier.broker.poison_queue import Held, Taken, holding
from notifier.broker.publisher import Publisher
from notifier.broker.topology import Topology
from notifier.cli import poison_view as view
from notifier.cli.options import AsJson
from notifier.cli.telling import Telling
from notifier.errors import InvalidInput, NoBroker
from notifier.settings import Settings, load

app = typer.Typer(add_completion=False)

Names = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="As `list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="Everything that is there now.")]


@app.callback()
def group() -> None:
    """Messages that could not be worked: unreadable ones, and ones that kill the process that works on them.

    An ID is the notification's id where the message has a readable one, otherwise its message_id.
    """


@app.command("list", short_help="what is there: since when, where from, why")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, the oldest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what is on the poison queue: since when, where from and why. Everything stays there.

    Examples:
      notifier poison list
      notifier poison list --limit 1000 --json | jq -r '.[].reason' | sort | uniq -c
    """
    place = _place()
    found, count = asyncio.run(_list(place, limit))
    if as_json:
        view.print_json([view.as_json(poisoned) for poisoned in found])
    else:
        view.print_list(found, count, place.topology.poison)


@app.command(short_help="one message whole: why, headers, payload")
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")], as_json: AsJson = False
) -> None:
    """Show one message whole: why it is here, its headers, its payload (as hex where it is no text).

    Examples:
      notifier poison show ntf_2f6c1d
      notifier poison show ntf_2f6c1d --json | jq -r .payload
    """
    (taken,) = asyncio.run(_show(_place(), name))
    if as_json:
        view.print_json(view.whole_as_json(taken.poisoned))
    else:
        view.print_whole(taken.poisoned)


@app.command(short_help="have messages worked again")
def requeue(names: Names = None, everything: All = False) -> None:
    """Have messages worked again, at once, in the tier they came from; prints the ids.

    Do it after the reason is gone, or they come back. Where the tier is no longer configured the shortest one that is
    not shorter takes its place. A message leaves the poison queue once RabbitMQ confirmed it in its work queue; if the
    command is cut off in between, it is in both. Unless every ID is found, nothing is done.

    Examples:
      notifier poison requeue ntf_2f6c1d ntf_8a90b4
      notifier poison requeue --all
    """
    _check_choice(names, everything)
    done = asyncio.run(_requeue(_place(), names))
    _conclude(done, "put back to work")


@app.command(short_help="throw messages away for good")
def discard(
    names: Names = None,
    everything: All = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask. Needed where there is no terminal to ask on.")
    ] = False,
) -> None:
    """Throw messages away for good; prints the ids. Unless every ID is found, nothing is done.

    Examples:
      notifier poison discard ntf_2f6c1d
      notifier poison discard --all --yes
    """
    _check_choice(names, everything)
    place = _place()
    if not yes:
        _ask(", ".join(names) if names else "everything", place.topology.poison)
    _conclude(asyncio.run(_discard(place, names)), "discarded")


@dataclass(frozen=True, slots=True)
class Place:
    """Which broker and which namespace."""

    settings: Settings
    topology: Topology

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[Held]:
        """Connect, hold the queue's messages, give back what was not removed."""
        patience = self.settings.connect_timeout
        async with looking(self.settings.amqp_urls, "poison", patience) as look, holding(look, self.topology) as held:
            yield held


def _place() -> Place:
    settings = load()
    if not settings.amqp_urls:
        raise NoBroker.named()
    Telling().listen()
    return Place(settings, Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions))


async def _list(place: Place, limit: int) -> tuple[list[Poisoned], int]:
    async with place.holding() as held:
        found: list[Poisoned] = []
        async for taken in held.each():
            found.append(taken.poisoned)
            if len(found) == limit:
                break
        return found, held.count


async def _show(place: Place, name: str) -> list[Taken]:
    async with place.holding() as held:
        return await _chosen(held, [name])


async def _requeue(place: Place, names: Sequence[str] | None) -> int:
    done = 0
    async with place.holding() as held, Publisher(place.settings.amqp_urls, place.topology, "poison") as publisher:
        await publisher.start(place.settings.connect_timeout)
        async for taken in _each(held, names):
            message = taken.poisoned.to_be_worked(int(time.time() * 1000))
            await publisher.publish_by(taken.poisoned.way_back(place.topology), message)
            await held.remove(taken)
            typer.echo(taken.poisoned.id)
            done += 1
    return done


async def _discard(place: Place, names: Sequence[str] | None) -> int:
    done = 0
    async with place.holding() as held:
        async for taken in _each(held, names):
            await held.remove(taken)
            typer.echo(taken.poisoned.id)
            done += 1
    return done


async def _each(held: Held, names: Sequence[str] | None) -> AsyncIterator[Taken]:
    """The chosen ones; or all, which are many, one at a time."""
    if names:
        for taken in await _chosen(held, names):
            yield taken
    else:
        async for taken in held.each():
            yield taken


async def _chosen(held: Held, names: Sequence[str]) -> list[Taken]:
    """The messages with these names, in the order of the queue. Raises InvalidInput unless each name means one."""
    found: dict[str, list[Taken]] = {name: [] for name in names}
    async for taken in held.each():
        for name, meant in found.items():
            if taken.poisoned.named_by(name):
                meant.append(taken)
    problems = [problem for name, meant in found.items() if (problem := _problem(name, meant))]
    if problems:
        raise InvalidInput("\n".join(problems))
    return sorted((meant[0] for meant in found.values()), key=lambda taken: taken.tag)


def _problem(name: str, meant: Sequence[Taken]) -> str | None:
    if not meant:
        return f"{name} is not on the poison queue; `notifier poison list` shows what is"
    if len(meant) > 1:
        each = ", ".join(str(taken.poisoned.message.message_id) for taken in meant)
        return f"{name} is there {len(meant)} times; name one by its message_id: {each}"
    return None


def _check_choice(names: Sequence[str] | None, everything: bool) -> None:
    if bool(names) == everything:
        raise typer.BadParameter("name the messages, or choose --all" + (", not both" if names else ""))


def _ask(what: str, queue: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"{what} on {queue} would be lost for good: add --yes to mean it", param_hint="discard"
        )
    if not typer.confirm(f"Throw away {what} on {queue}, for good?", err=True):
        typer.echo("notifier: nothing was discarded", err=True)
        raise typer.Exit(1)


def _conclude(done: int, what: str) -> None:
    if sys.stderr.isatty() or not done:
        typer.echo(
            f"notifier: {done} {what}" if done else f"notifier: the poison queue is empty; nothing {what}", err=True
        )
