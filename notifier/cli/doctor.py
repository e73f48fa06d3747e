"""`notifier doctor`: what `notifier run` still needs here, and how to get it."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import typer

from notifier.broker import probe
from notifier.broker.inspect import Look, QueueState, looking
from notifier.broker.topology import Exchange, Queue, Topology
from notifier.cli import checks, doctor_partitions, doctor_service
from notifier.cli.checks import Finding
from notifier.cli.options import AsJson
from notifier.errors import BrokerUnreachable, ConfigurationError, NoBroker, NotifierError
from notifier.settings import Settings, load, without_password

#: Seconds that each address of the broker gets: the doctor is asked by somebody who waits.
_PATIENCE = 2.0
#: Seconds. A broker's own work; later than this and merchants notice.
_LATE = 0.25

_START_IT = "start it, or correct NOTIFIER_AMQP_URL"

_LEAST_WIDTH = 30
_MARKS = {"ok": ("✓", typer.colors.GREEN), "warn": ("!", typer.colors.YELLOW), "fail": ("✗", typer.colors.RED)}


def doctor(as_json: AsJson = False) -> None:
    """Check settings, broker, delay, clock, limits and database, and say what to do about what is not as it should be.

    A probe message waits for a moment in queues of its own, which end with the command. The objects of the namespace
    are looked at and left alone, so this may run beside the service.

    Exit code: 0 when nothing failed (warnings are no failure), else 1.

    Examples:
      notifier doctor
      notifier doctor --json | jq '.[] | select(.level != "ok")'
    """
    logging.getLogger("notifier").addHandler(logging.NullHandler())  # what the client reports becomes findings here
    findings = asyncio.run(_examine())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        _print(findings)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


async def _examine() -> list[Finding]:
    try:
        settings = load()
    except ConfigurationError as error:
        return [_settings_problem(line) for line in str(error).splitlines()]
    tiers = ", ".join(tier.name for tier in settings.tiers)
    return [
        Finding("settings", "ok", f"namespace {settings.namespace}, delay {settings.delay}, tiers {tiers}"),
        checks.secret(settings),
        checks.callback(settings),
        checks.egress(settings),
        checks.files(settings, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        *await _broker(settings),
        await doctor_service.database(settings),
        *await doctor_service.service(),
    ]


def _settings_problem(line: str) -> Finding:
    return Finding("settings", "fail", line, "`notifier config` lists the settings; nothing else was checked")


async def _broker(settings: Settings) -> list[Finding]:
    if not settings.amqp_urls:
        said, _, ways = str(NoBroker.named()).partition("\n")
        return [Finding("broker", "fail", said, ways)]
    greetings = await asyncio.gather(*(_greeting(settings, url) for url in settings.amqp_urls))
    reachable = [url for url, (_, reached) in zip(settings.amqp_urls, greetings, strict=True) if reached]
    findings = [_address(finding, reachable) for finding, _ in greetings]
    if reachable:
        findings += await _delay(settings, reachable[0])
        findings += await doctor_partitions.partitions(settings, reachable[0], _PATIENCE)
        findings += await _topology(settings, reachable[0])
    return findings


async def _greeting(settings: Settings, url: str) -> tuple[Finding, bool]:
    """A finding about one address, and whether it can be spoken to."""
    shown = without_password(url)
    try:
        greeting = await probe.greet(url, _PATIENCE)
    except BrokerUnreachable as error:
        return Finding("broker", "fail", str(error), _START_IT), False
    except NotifierError as error:
        remedy = "correct NOTIFIER_AMQP_URL, or let an administrator of the broker mend it (rabbitmqctl list_users)"
        return Finding("broker", "fail", str(error), remedy), False
    said = f"{shown}: {greeting.product} {greeting.version}, connected in {greeting.seconds * 1000:.0f} ms"
    return checks.release(settings, said, greeting.release), True


def _address(finding: Finding, reachable: Sequence[str]) -> Finding:
    """One address of several may be down, since they are tried in turn; one that refuses us ends the attempt."""
    if finding.remedy == _START_IT and reachable:
        return replace(finding, level="warn", remedy=f"{_START_IT}; meanwhile the other addresses serve")
    return finding


async def _delay(settings: Settings, url: str) -> list[Finding]:
    name = f"{settings.delay} delay"
    try:
        delayed = await probe.delay(url, settings.delay, settings.namespace, _PATIENCE)
    except NotifierError as error:
        return [Finding("delay", "fail", f"{name}: {error}", _delay_remedy(str(error))), _clock(None)]
    if delayed.late < 0:
        early = Finding(
            "delay",
            "fail",
            f"{name} works, but a probe came {-delayed.late * 1000:.0f} ms before it was due",
            "nothing may come early: please report it, with the broker's version",
        )
        return [early, _clock(delayed.clock)]
    said = f"{name} works: a probe of {probe.DELAY} ms came {delayed.late * 1000:.0f} ms after it was due"
    if delayed.late > _LATE:
        return [
            Finding("delay", "warn", said, "the broker or this machine is busy; look at its load"),
            _clock(delayed.clock),
        ]
    return [Finding("delay", "ok", said), _clock(delayed.clock)]


def _delay_remedy(said: str) -> str:
    if "exchange type" in said:
        return (
            "enable rabbitmq_delayed_message_exchange on every node (brokers up to 4.2 can have it; deploy/ has an "
            "image), or set NOTIFIER_DELAY=native, which needs no plugin and keeps what waits through a crash"
        )
    if "ACCESS_REFUSED" in said:
        return "let the user configure, write and read what begins with the namespace (rabbitmqctl set_permissions)"
    return "is a memory or disk alarm raised? rabbitmq-diagnostics alarms"


def _clock(apart: float | None) -> Finding:
    return checks.clock(datetime.now(UTC), apart)


async def _topology(settings: Settings, url: str) -> list[Finding]:
    topology = Topology(settings.namespace, settings.tiers, settings.delay, settings.partitions)
    try:
        async with looking([url], "doctor", _PATIENCE) as look:
            return await _look_at(look, topology)
    except NotifierError as error:
        return [Finding("topology", "warn", str(error), "notifier topology show")]


async def _look_at(look: Look, topology: Topology) -> list[Finding]:
    objects: list[Exchange | Queue] = [*topology.exchanges, *topology.queues]
    states: dict[str, QueueState] = {}
    conflicts, missing = [], 0
    for wanted in objects:
        if isinstance(wanted, Queue):
            state = await look.queue(wanted.name)
            exists = state is not None
            if state is not None:
                states[wanted.name] = state
        else:
            exists = await look.exchange(wanted.name)
        if not exists:
            missing += 1
        elif difference := await look.difference(wanted, topology):
            conflicts.append(Finding("topology", "fail", difference, "notifier topology show tells all of it"))
    found = f"{len(objects) - missing} of {len(objects)} objects stand"
    rest = "; run and enqueue declare the others" if missing else ", as they should"
    poisoned = states[topology.poison].ready if topology.poison in states else 0
    return [
        *(conflicts or [Finding("topology", "ok", f"{found}{rest}")]),
        *([_poison(poisoned, topology)] if poisoned else []),
    ]


def _poison(count: int, topology: Topology) -> Finding:
    what = "1 message" if count == 1 else f"{count:,} messages"
    return Finding("poison", "warn", f"{what} on {topology.poison} could not be worked", "notifier poison list")


def _print(findings: Sequence[Finding]) -> None:
    widest = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark, colour = _MARKS[finding.level]
        indent = " " * (widest + 4)
        said = _folded(finding.said, indent)
        typer.echo(f"{typer.style(mark, fg=colour)} {finding.check.ljust(widest)}  {said}")
        for line in (finding.remedy or "").splitlines():
            typer.echo(f"{indent}→ {_folded(line.strip(), indent + '  ')}")
    failed = sum(finding.level == "fail" for finding in findings)
    warned = sum(finding.level == "warn" for finding in findings)
    typer.echo()
    if failed:
        typer.secho(f"{failed} to mend before `notifier run` works", fg=typer.colors.RED)
    elif warned:
        typer.secho(f"nothing failed, {warned} to look at: notifier run", fg=typer.colors.YELLOW)
    else:
        typer.secho("all is well: notifier run", fg=typer.colors.GREEN)


def _folded(text: str, indent: str) -> str:
    """On a terminal, folded behind the indent; what is to be copied (a secret, an address) is never broken."""
    room = shutil.get_terminal_size().columns - len(indent) if sys.stdout.isatty() else 0
    if room < _LEAST_WIDTH:
        return text
    return f"\n{indent}".join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))
