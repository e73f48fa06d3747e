"""The service: the master's list of children. The master itself connects to nothing, so it imports nothing heavy."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

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


def master_of(
    settings: Settings,
    tiers: Sequence[Tier] | None = None,
    *,
    operable: bool = False,
    on_line: OnLine | None = None,
    on_event: Tell = logs.event,
    announce: Callable[[str], None] = to_stderr,
    signals: Sequence[signal.Signals] = STOP_SIGNALS,
) -> Master:
    """A master over all processes of the service, to be run in the caller's event loop.

    tiers: only these, else all configured ones; raises ConfigurationError for one that is not configured. operable:
    `notifier ctl` reaches it in the runtime directory, which then is its alone. on_line: is called with the slot and
    each line that a child prints; None lets the children print for themselves. on_event, announce, signals: see
    `Master`; with signals=() the caller handles them and calls its `stop`.
    """
    chosen = _chosen(settings, tiers)

    def programs(of: Settings) -> list[Program]:
        return [_tier_program(of, tier) for tier in chosen]

    reloading = Reloading(settings, programs)
    master = Master(
        programs(settings),
        Limits(drain=settings.drain_timeout),
        runtime_directory=Path(settings.runtime_dir) if operable else None,
        reload=reloading if operable else None,
        on_event=on_event,
        announce=announce,
        on_line=on_line,
        signals=signals,
    )
    reloading.serve(master)
    return master


def run_service(settings: Settings, tiers: Sequence[Tier] | None = None) -> int:
    """Be the master of the service in this process, until a signal ends it. Returns the exit code."""
    setproctitle("notifier: master")
    logs.configure(settings.log.level, settings.log.format, "master")
    return asyncio.run(_run(settings, tiers))


async def _run(settings: Settings, tiers: Sequence[Tier] | None) -> int:
    return await master_of(settings, tiers, operable=True).run()


def _chosen(settings: Settings, tiers: Sequence[Tier] | None) -> Sequence[Tier]:
    if tiers is None:
        return settings.tiers
    known = ", ".join(tier.name for tier in settings.tiers)
    for tier in tiers:
        if tier not in settings.tiers:
            raise ConfigurationError(f"tier {tier.name} is in no configured ladder; the configured tiers are {known}")
    return sorted(set(tiers))


def _tier_program(settings: Settings, tier: Tier) -> Program:
    # -P: files that happen to lie in the working directory must not stand in for modules of the service
    command = [sys.executable, "-P", "-m", "notifier.processes", "tier", "--tier", tier.name]
    if settings.callback is not None or settings.extensions:  # but the user's own modules may lie there
        command += ["--import-from", os.getcwd()]
    boot = {"settings": settings.transferable(), "namespace": settings.namespace, "tier": tier.name}
    return Program(f"tier:{tier.name}", tuple(command), boot, groups=("tier", f"tier:{tier.name}"))
