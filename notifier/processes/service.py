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
from notifier.processes.staffing import Post, Staffing
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
    crew = _Crew(settings, cast)

    def announced(line: str) -> None:
        announce(line)
        if line == "ready" and (address := dashboard(master)) is not None:
            announce(f"dashboard: {address}")

    reloading = Reloading(settings, crew.programs)
    master = Master(
        crew.programs(settings),
        Limits(drain=settings.drain_timeout),
        runtime_directory=Path(settings.runtime_dir) if operable else None,
        reload=reloading if operable and reloadable else None,
        recast=crew.recast,
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


def _chosen(settings: Settings, tiers: Sequence[Tier] | None) -> Sequence[Tier] | None:
    if tiers is None:
        return None
    known = ", ".join(tier.name for tier in settings.tiers)
    for tier in tiers:
        if tier not in settings.tiers:
            raise ConfigurationError(f"tier {tier.name} is in no configured ladder; the configured tiers are {known}")
    return sorted(set(tiers))


class _Crew:
    """The programs of a service: from its settings, and from what its own process found in the record."""

    def __init__(self, settings: Settings, cast: Cast) -> None:
        self._settings = settings
        self._cast = cast
        self._chosen = _chosen(settings, cast.tiers)
        self._staffing = Staffing.stated(settings)
        self._unstaffed = True  # nobody has looked at the record yet
        self._run = secrets.token_hex(8)  # what an agent of an earlier service said is none of this one's

    def recast(self, word: Any) -> list[Program]:
        """The programs from now on. word: of a `Staffing`."""
        self._staffing, self._unstaffed = Staffing.read(word), False
        return self.programs(self._settings)

    def programs(self, settings: Settings) -> list[Program]:
        """With these settings from now on; but the number of partitions is the namespace's."""
        self._settings = settings
        of = settings.model_copy(update={"partitions": self._staffing.partitions})
        posts = list(self._staffing.posts(of.tiers, self._chosen))
        agent, api = self._cast.agent, self._cast.api
        tiers = [self._tier(of, post, watch=not agent and post is posts[0]) for post in posts]
        return tiers + [_agent_program(of, self._run, self._unstaffed)] * agent + [_api_program(of, self._run)] * api

    def _tier(self, settings: Settings, post: Post, *, watch: bool) -> Program:
        command = [*_command("tier"), "--tier", post.tier.name]
        if post.partition is not None:
            command += ["--partition", str(post.partition)]
        if settings.callback is not None or settings.extensions:  # but the user's own modules may lie there
            command += ["--import-from", os.getcwd()]
        boot = _boot(settings, self._run) | {
            "settings": _of_tiers(settings),
            "tier": post.tier.name,
            "retired": post.retired,
            "registry": self._cast.agent,  # there is one, which brings the merchants and keeps them fresh
            "watch": watch,
            "unstaffed": self._unstaffed,
        }
        return Program(post.slot, tuple(command), boot, groups=("tier", f"tier:{post.tier.name}"))


def _of_tiers(settings: Settings) -> dict[str, Any]:
    """What they need not know, they are not told: they call strangers."""
    known = settings.transferable()
    return known | {"database_url": None, "api": known["api"] | {"token": None}}


def _agent_program(settings: Settings, run: str, unstaffed: bool) -> Program:
    boot = _boot(settings, run) | {"unstaffed": unstaffed}
    return Program("agent", tuple(_command("agent")), boot, groups=("agent",), rank=1)


def _api_program(settings: Settings, run: str) -> Program:
    return Program("api", tuple(_command("api")), _boot(settings, run), groups=("api",), rank=2)


def _boot(settings: Settings, run: str) -> dict[str, Any]:
    return {"settings": settings.transferable(), "namespace": settings.namespace, "run": run}


def _command(role: str) -> list[str]:
    # -P: files that happen to lie in the working directory must not stand in for modules of the service
    return [sys.executable, "-P", "-m", "notifier.processes", role]
