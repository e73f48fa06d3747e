"""The service: the master's list of children. The master itself connects to nothing, so it imports nothing heavy."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from notifier import logs
from notifier.domain.tier import Tier
from notifier.errors import ConfigurationError
from notifier.processes.reloading import Reloading
from notifier.settings import Settings
from notifier.supervision.departure import Limits
from notifier.supervision.incarnation import Program
from notifier.supervision.lines import OnLine
from notifier.supervision.master import Master, to_stderr
from notifier.supervision.slot import Tell

#: The signals that stop the service: the first drains, the second is quick.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Cast:
    """Which processes this service consists of. tiers: only these, None for all configured ones."""

    tiers: Sequence[Tier] | None = None
    agent: bool = True
    api: bool = True


def master_of(
    settings: Settings,
    cast: Cast,
    *,
    operable: bool = False,
    reloadable: bool = True,
    on_line: OnLine | None = None,
    on_event: Tell = logs.event,
    announce: Callable[[str], None] = to_stderr,
    signals: Sequence[signal.Signals] = STOP_SIGNALS,
) -> Master:
    """A master over all processes of the service, to be run in the caller's event loop.

    cast: raises ConfigurationError for a tier in it that is not configured. operable: `notifier ctl` reaches it in the
    runtime directory, which then is its alone; reloadable: and it reads its settings again when told so. on_line: is
    called with the slot and each line that a child prints; None lets the children print for themselves. announce: also
    gets the dashboard's address, after `ready`. on_event, signals: see `Master`; with signals=() the caller handles
    them and calls its `stop`.
    """
    chosen = _chosen(settings, cast.tiers)
    run = secrets.token_hex(8)  # what an agent of an earlier service said is none of this one's

    def programs(of: Settings) -> list[Program]:
        tiers = [_tier_program(of, run, tier, registry=cast.agent) for tier in chosen]
        return tiers + [_agent_program(of, run)] * cast.agent + [_api_program(of, run)] * cast.api

    def announced(line: str) -> None:
        announce(line)
        if line == "ready" and (address := dashboard(master)) is not None:
            announce(f"dashboard: {address}")

    reloading = Reloading(settings, programs)
    master = Master(
        programs(settings),
        Limits(drain=settings.drain_timeout),
        runtime_directory=Path(settings.runtime_dir) if operable else None,
        reload=reloading if operable and reloadable else None,
        on_event=on_event,
        announce=announced,
        on_line=on_line,
        signals=signals,
    )
    reloading.serve(master)
    return master


def dashboard(master: Master) -> str | None:
    """The address of the HTTP API and its dashboard, as its process says it; None if there is none, or not yet."""
    told = [slot["statistics"].get("url") for slot in master.status()["slots"] if slot["slot"] == "api"]
    return next((url for url in told if isinstance(url, str)), None)


def run_service(settings: Settings, cast: Cast) -> int:
    """Be the master of the service in this process, until a signal ends it. Returns the exit code."""
    setproctitle("notifier: master")
    logs.configure(settings.log.level, settings.log.format, "master")
    return asyncio.run(_run(settings, cast))


async def _run(settings: Settings, cast: Cast) -> int:
    return await master_of(settings, cast, operable=True).run()


def _chosen(settings: Settings, tiers: Sequence[Tier] | None) -> Sequence[Tier]:
    if tiers is None:
        return settings.tiers
    known = ", ".join(tier.name for tier in settings.tiers)
    for tier in tiers:
        if tier not in settings.tiers:
            raise ConfigurationError(f"tier {tier.name} is in no configured ladder; the configured tiers are {known}")
    return sorted(set(tiers))


def _tier_program(settings: Settings, run: str, tier: Tier, *, registry: bool) -> Program:
    """registry: there is an agent, which brings the merchants and keeps them fresh."""
    command = [*_command("tier"), "--tier", tier.name]
    if settings.callback is not None or settings.extensions:  # but the user's own modules may lie there
        command += ["--import-from", os.getcwd()]
    boot = _boot(settings, run) | {"settings": _of_tiers(settings), "tier": tier.name, "registry": registry}
    return Program(f"tier:{tier.name}", tuple(command), boot, groups=("tier", f"tier:{tier.name}"))


def _of_tiers(settings: Settings) -> dict[str, Any]:
    """What they need not know, they are not told: they call strangers."""
    known = settings.transferable()
    return known | {"database_url": None, "api": known["api"] | {"token": None}}


def _agent_program(settings: Settings, run: str) -> Program:
    return Program("agent", tuple(_command("agent")), _boot(settings, run), groups=("agent",), rank=1)


def _api_program(settings: Settings, run: str) -> Program:
    return Program("api", tuple(_command("api")), _boot(settings, run), groups=("api",), rank=2)


def _boot(settings: Settings, run: str) -> dict[str, Any]:
    return {"settings": settings.transferable(), "namespace": settings.namespace, "run": run}


def _command(role: str) -> list[str]:
    # -P: files that happen to lie in the working directory must not stand in for modules of the service
    return [sys.executable, "-P", "-m", "notifier.processes", role]
