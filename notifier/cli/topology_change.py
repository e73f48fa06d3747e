"""`notifier topology partitions` and `prune`: what changes the objects of a namespace while services run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

import typer

from notifier.broker.pruning import SETTLE, Pruned, prune
from notifier.broker.reshaping import Reshaped, change_partitions
from notifier.broker.topology import MOST_PARTITIONS, Topology
from notifier.cli.options import AsJson
from notifier.cli.telling import Telling
from notifier.errors import NoBroker
from notifier.settings import Settings, load


def partitions_command(
    number: Annotated[
        int, typer.Argument(metavar="N", min=1, max=MOST_PARTITIONS, help="Work queues of each tier; 1 is without.")
    ],
    as_json: AsJson = False,
) -> None:
    """Give every tier so many work queues, on all machines, while notifications wait and flow.

    The notifications of one merchant always come into the same queue, and each queue is served by one process at a
    time, whichever machine it is on. Services that run take over within seconds. What lies in the queues of before
    is delivered by processes that stay until `notifier topology prune`; nothing is lost and nothing sent twice.
    Then set NOTIFIER_PARTITIONS to the same number on every machine: `notifier run` with another one does not start.

    Exit code: 0; 1 when it was not finished (the same command finishes it); 78 when RabbitMQ lacks the plugin
    rabbitmq_consistent_hash_exchange, which comes with it.

    Example:
      notifier topology partitions 4
    """
    settings = _settings()
    telling = Telling()
    telling.listen()
    topology = Topology(settings.namespace, settings.tiers, settings.delay, number)
    done = asyncio.run(change_partitions(settings.amqp_urls, topology, settings.connect_timeout, telling.say))
    if as_json:
        typer.echo(json.dumps(_reshaped(done), indent=2))
        return
    typer.echo(_said(settings, done))
    if settings.partitions != number:
        telling.say(f"the settings here still say {settings.partitions}: set NOTIFIER_PARTITIONS={number} everywhere")


def prune_command(
    settle: Annotated[
        float,
        typer.Option(
            "--settle",
            metavar="SECONDS",
            min=0,
            help="How long it must have been empty. Less only if RabbitMQ had no trouble in the last minutes.",
        ),
    ] = SETTLE,
    as_json: AsJson = False,
) -> None:
    """Delete the queues of tiers that are in no ladder any more, and of partitions that are fed no more.

    Only those that hold nothing, and that no service has in a ladder. Takes about three minutes: RabbitMQ may be
    handing over a last message without showing it. Services let the processes of what is deleted go.

    Exit code: 0 when nothing is left to prune, 1 when something had to stay; it says why.

    Examples:
      notifier topology prune
      notifier topology prune --settle 0     # RabbitMQ has been well for the last minutes
    """
    settings = _settings()
    telling = Telling()
    telling.listen()
    topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
    done = asyncio.run(prune(settings.amqp_urls, topology, settings.connect_timeout, settle, telling.say))
    if as_json:
        typer.echo(json.dumps({"gone": done.gone, "kept": done.kept}, indent=2))
    else:
        for line in _pruned(done):
            typer.echo(line)
    if done.kept:
        raise typer.Exit(1)


def _settings() -> Settings:
    settings = load()
    if not settings.amqp_urls:
        raise NoBroker.named()
    return settings


def _reshaped(done: Reshaped) -> dict[str, object]:
    return {"before": list(done.before), "partitions": done.after, "tiers": [tier.name for tier in done.tiers]}


def _said(settings: Settings, done: Reshaped) -> str:
    number = "1 partition" if done.after == 1 else f"{done.after} partitions"
    if not done.tiers:
        return f"namespace {settings.namespace} has {number}: nothing to change"
    before = " or ".join(str(each) for each in done.before)
    return f"namespace {settings.namespace} has {number} now, {before} before: {len(done.tiers)} tiers were changed"


def _pruned(done: Pruned) -> Sequence[str]:
    if not done.gone and not done.kept:
        return ["nothing to prune: everything there is is in use"]
    return [*(f"{name}: deleted" for name in done.gone), *(f"{name}: stays, {why}" for name, why in done.kept.items())]
