"""The verbs of `notifier ctl` that set something, for a while or until it is taken back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from notifier.cli import ctl_answers, ctl_spans
from notifier.cli.ctl_fleet import Outcome, conclude
from notifier.cli.ctl_line import PROMPT, Asking, entries
from notifier.cli.ctl_options import ALL, For, Reason, Tier, TierOrAll, span
from notifier.cli.ctl_targets import address, covers, members
from notifier.cli.options import AsJson

LEVELS = ("debug", "info", "warning", "error")
#: The word that takes an override back.
DEFAULT = "default"
#: What can be set, with the largest sensible value: a quorum queue caps the prefetch there.
LIMITS = {"prefetch": 2000, "concurrency": 2000, "rate": 100_000}


@dataclass(frozen=True, slots=True)
class Change:
    """One key to set, or to clear with None. to: whom it is meant for. critical: who does not answer is restarted."""

    key: str
    value: Any
    to: str
    critical: bool = False


def pause(context: typer.Context, tier: Tier, for_: For = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """Let a tier take no more notifications: what runs is finished, what was not begun goes back to RabbitMQ.

    A paused tier's notifications wait in RabbitMQ and are late afterwards; none is lost. The pause holds for processes
    that start later, too, until `resume` or the end of --for.

    Examples:
      notifier ctl pause 5s --for 10m --reason "shop-7 is being moved"
      notifier ctl pause all
    """
    to = address(tier)
    change = Change(f"pause/{to}", {"paused": True}, to, critical=True)
    _set(context, [change], f"{to} is paused", for_, reason, as_json)


def resume(context: typer.Context, tier: Tier, as_json: AsJson = False) -> None:
    """Take a pause back. `resume all` takes every pause back.

    Exit code: 1 also if the tier stays paused, because another pause covers it.

    Examples:
      notifier ctl resume 5s
    """
    to = address(tier)
    conclude(context, lambda operator: _resume(operator, to), as_json)


def set_(
    context: typer.Context,
    tier: Tier,
    values: Annotated[list[str], typer.Argument(metavar="NAME=N...", help="prefetch=N, concurrency=N or rate=N.")],
    for_: For = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Change how much a tier process does at once.

    prefetch is how many notifications it takes from RabbitMQ, concurrency how many callbacks it makes at the same time,
    rate how many it starts per second. NAME=default goes back to the settings.

    Examples:
      notifier ctl set 5s prefetch=50 --for 1h --reason "RabbitMQ is short of memory"
      notifier ctl set 1s rate=50 --for 30m --reason "our own network is being mended"
      notifier ctl set all concurrency=default
    """
    to = address(tier)
    wanted = [_assignment(text) for text in values]
    changes = [Change(f"set/{to}/{name}", value, to) for name, value in wanted]
    said = ", ".join(f"{name} = {DEFAULT if value is None else value}" for name, value in wanted)
    _set(context, changes, f"{to}: {said}", for_, reason, as_json)


def log_level(
    context: typer.Context,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="debug, info, warning, error; default: as set.")],
    tier: TierOrAll = ALL,
    for_: For = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Change the least level that processes log.

    Examples:
      notifier ctl log-level debug 5s --for 10m
      notifier ctl log-level default
    """
    if level not in (*LEVELS, DEFAULT):
        raise typer.BadParameter(f"{level!r} is none of {', '.join((*LEVELS, DEFAULT))}", param_hint="LEVEL")
    to = address(tier)
    change = Change(f"log-level/{to}", None if level == DEFAULT else level, to)
    _set(context, [change], f"{to}: log level = {level}", for_, reason, as_json)


def _set(
    context: typer.Context, changes: Sequence[Change], said: str, for_: str | None, reason: str | None, as_json: bool
) -> None:
    seconds = None if for_ is None else span(for_, "--for")
    if seconds is not None and any(change.value is None for change in changes):
        raise typer.BadParameter("what goes back to the settings has no end", param_hint="--for")
    conclude(context, lambda operator: pushed(operator, changes, said, seconds, reason), as_json)


async def pushed(
    operator: Asking, changes: Sequence[Change], said: str, seconds: float | None, reason: str | None
) -> Outcome:
    """Make these changes of what operators have set on one machine. seconds: until they end by themselves."""
    done = await _pushed(operator, changes, seconds, reason)
    accounts = [ctl_answers.of_push(answer, addressed) for answer, addressed in done]
    worst = min(accounts, key=lambda account: account.live)
    shown = [
        {**answer, "addressed": addressed, "live": account.live}
        for (answer, addressed), account in zip(done, accounts, strict=True)
    ]
    return Outcome(
        f"{said}{until(seconds)}: {worst.said}",
        list(dict.fromkeys(sentence for account in accounts for sentence in account.missing)),
        {"changes": shown},
        all(account.ok for account in accounts),
        _unsaved([answer for answer, _ in done]),
    )


async def _pushed(
    operator: Asking, changes: Sequence[Change], seconds: float | None, reason: str | None
) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Push each; with the answer, the slots that it was meant for. Nothing is pushed for a target that is not there."""
    status = await operator.ask("status", timeout=PROMPT)
    addressed = [members(change.to, status["slots"]) for change in changes]
    done = []
    for change, names in zip(changes, addressed, strict=True):
        body = {"key": change.key, "why": reason, "critical": change.critical}
        if change.value is None:
            answer = await operator.ask("clear", body, timeout=PROMPT)
        else:
            answer = await operator.ask("push", {**body, "value": change.value, "for": seconds}, timeout=PROMPT)
        done.append((answer, names))
    return done


async def _resume(operator: Asking, to: str) -> Outcome:
    status = await operator.ask("status", timeout=PROMPT)
    addressed = members(to, status["slots"])
    set_now = [entry["key"] for entry in await entries(operator) if entry["key"].startswith("pause/")]
    own = [key for key in set_now if to in (ALL, _group(key))]
    others = [
        key
        for key in set_now
        if key not in own and any(covers(_group(key), slot) for slot in status["slots"] if slot["slot"] in addressed)
    ]
    answers = [await operator.ask("clear", {"key": key}, timeout=PROMPT) for key in own]
    accounts = [ctl_answers.of_push(answer, addressed) for answer in answers]
    missing = [sentence for account in accounts for sentence in account.missing]
    missing += [f"{to} stays paused by the pause of {_group(key)}: notifier ctl resume {_group(key)}" for key in others]
    worst = min(accounts, key=lambda account: account.live, default=None)
    said = f"{to} has no pause of its own" if worst is None else f"{to} is resumed: {worst.said}"
    told = list(dict.fromkeys(missing))
    shown = [
        {**answer, "addressed": addressed, "live": account.live}
        for answer, account in zip(answers, accounts, strict=True)
    ]
    return Outcome(said, told, {"said": said, "missing": told, "changes": shown}, not missing)


def _group(key: str) -> str:
    return key.removeprefix("pause/")


def _assignment(text: str) -> tuple[str, float | None]:
    name, equals, value = text.partition("=")
    most = LIMITS.get(name)
    if most is None or not equals:
        raise typer.BadParameter(f"{text!r} is none of prefetch=N, concurrency=N, rate=N", param_hint="NAME=N")
    if value == DEFAULT:
        return name, None
    if name == "rate":
        return name, _rate(text, value, most)
    if not value.isdecimal() or not 1 <= int(value) <= most:
        raise typer.BadParameter(f"{text!r}: N is a number from 1 to {most}, or {DEFAULT}", param_hint="NAME=N")
    return name, int(value)


def _rate(text: str, value: str, most: int) -> float:
    """A slow one may be a fraction: 0.2 is one every five seconds."""
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) and 0 < float(value) <= most:
        return float(value) if "." in value else int(value)
    raise typer.BadParameter(f"{text!r}: N is a number above 0, at most {most}, or {DEFAULT}", param_hint="NAME=N")


def until(seconds: float | None) -> str:
    """` until 14:00:00Z`; nothing if there is no end."""
    if seconds is None:
        return ""
    now = datetime.now(UTC)
    return f" until {ctl_spans.moment((now + timedelta(seconds=seconds)).isoformat(), now)}"


def _unsaved(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    if all(answer["saved"] for answer in answers):
        return []
    return ["it is not written to disk and would be lost with the master; its log says why (state.unsaved)"]
