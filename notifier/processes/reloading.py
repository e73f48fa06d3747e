"""New settings for a running service: checked first, what can change at once changed, the rest told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from notifier import logs
from notifier.errors import ConfigurationError
from notifier.settings import Settings, load
from notifier.supervision.incarnation import Program
from notifier.supervision.master import Master

#: Sent to every process; it answers with the dotted names of those settings that are in force there from now on.
ACTION = "settings"
#: Seconds for that answer, and for the check.
ANSWER, CHECK = 5.0, 30.0
#: What a process may be able to take over while it runs. It says itself what it took.
OFFERED = ("log.level", "log.format", "prefetch")
#: What all processes and the master share: it stays as it was until the whole service is started again.
SHARED = ("namespace", "runtime_dir", "state_dir", "drain_timeout", "partitions")
LADDERS = ("ladder", "ladders")


class Reloading:
    """What `notifier ctl reload` and SIGHUP do. programs: makes the children's programs from settings."""

    def __init__(self, settings: Settings, programs: Callable[[Settings], Sequence[Program]]) -> None:
        self._first = settings
        self._programs = programs
        self._master: Master
        #: Settings with the epochs up to which the slots had been started without them; oldest first.
        self._history: list[tuple[Mapping[str, int], Settings]] = [({}, settings)]
        self._live: dict[str, Any] = {}

    def serve(self, master: Master) -> None:
        """This master's. Call it once, before it runs."""
        self._master = master

    async def __call__(self) -> dict[str, list[str]]:
        """Take over the settings as they are now in the file.

        Returns dotted names of what changed. live: in force now. restart: in force in every process that is started
        from now on, see `notifier ctl restart`. service: in force when the service is stopped and started.
        Raises ConfigurationError if the new settings cannot be used; then nothing has changed.
        """
        await _check()
        wanted = load()
        shared = self._shared(wanted)
        first = self._first.transferable()
        # made anew, not copied: a copy keeps what was computed of the ladders that it does not get
        fresh = Settings.received(wanted.transferable() | {name: first[name] for name in shared})
        waiting = self._changes(fresh)
        self._master.renew(self._programs(fresh))
        self._history.append(({slot.name: slot.epoch for slot in self._master.slots}, fresh))
        logs.configure(fresh.log.level, fresh.log.format, "master")
        live = await self._offer(fresh, [name for name in waiting if name in OFFERED])
        self._live |= {name: _value(fresh, name) for name in live}
        return {"live": live, "restart": [name for name in waiting if name not in live], "service": shared}

    def _shared(self, wanted: Settings) -> list[str]:
        names = SHARED if wanted.tiers == self._first.tiers else (*LADDERS, *SHARED)
        return [name for name in names if getattr(wanted, name) != getattr(self._first, name)]

    def _changes(self, fresh: Settings) -> list[str]:
        """What is otherwise in at least one process, as it was started and as it was told since."""
        new = _flat(fresh)
        changed: set[str] = set()
        for slot in self._master.slots:
            old = _flat(self._started_with(slot.name, slot.epoch)) | self._live
            changed |= {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
        return sorted(changed)

    def _started_with(self, slot: str, epoch: int) -> Settings:
        return [settings for before, settings in self._history if epoch > before.get(slot, -1)][-1]

    async def _offer(self, fresh: Settings, names: Sequence[str]) -> list[str]:
        """Those of the names that every process has taken over."""
        if not names:
            return []
        offer = {"log": fresh.log.model_dump(mode="json"), "prefetch": fresh.prefetch}
        replies = await self._master.send("all", ACTION, offer, timeout=ANSWER)
        taken = [set(reply.data) if isinstance(reply.data, list) else set() for reply in replies]
        return [name for name in names if all(name in each for each in taken)]


async def _check() -> None:
    """Read the settings in a process of its own: what goes wrong there, goes wrong there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "notifier", "config", "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CHECK):
            _, told = await process.communicate()
    except TimeoutError:
        raise ConfigurationError(f"the new settings could not be checked within {CHECK:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = [line.removeprefix("notifier: ") for line in told.decode("utf-8", "replace").splitlines()]
        raise ConfigurationError("\n".join(lines[-10:]) or f"the check ended with {process.returncode}")


def _flat(settings: Settings) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.transferable().items():
        if isinstance(value, dict):
            flat |= {f"{name}.{part}": of for part, of in value.items()}
        else:
            flat[name] = value
    return flat


def _value(settings: Settings, name: str) -> Any:
    return _flat(settings).get(name)
