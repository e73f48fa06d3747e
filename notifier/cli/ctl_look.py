"""The verbs of `notifier ctl` that only look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from notifier.cli import ctl_answers, ctl_spans, ctl_view
from notifier.cli.ctl_fleet import Outcome, conclude, everywhere, on_all
from notifier.cli.ctl_line import PROMPT, Asking, complain, entries, print_json, talk
from notifier.cli.ctl_options import ALL, Tier, TierOrAll
from notifier.cli.ctl_targets import address
from notifier.cli.options import AsJson
from notifier.cli.table import print_table
from notifier.errors import NotifierError
from notifier.supervision.channel import Body

#: What the master says, and all that operators have set.
Status = tuple[Body, list[dict[str, Any]]]


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """The page for 3 a.m.: what is wrong, then every process, then what operators have set.

    VERSION is that of what operators have set, as the process has it; `41 of 42` means that it lacks the newest.
    LATE P99: one attempt in a hundred started later after its due moment. Exit code: 0, whatever is wrong; with --fleet
    1 if a machine did not answer.

    Examples:
      notifier ctl status
      notifier ctl status --json | jq '.slots[] | select(.state != "ready") | .slot'
    """
    if on_all(context):
        _print_statuses(talk(lambda operator: everywhere(operator, _status)), as_json)
        return
    shown, overrides = talk(_status)
    if as_json:
        print_json({**shown, "entries": overrides})
        return
    ctl_view.print_page(shown, overrides, datetime.now(UTC))


def ping(context: typer.Context, as_json: AsJson = False) -> None:
    """Whether the master answers, and how fast.

    Examples:
      notifier ctl ping && echo alive
    """
    conclude(context, _ping, as_json)


def inflight(tier: Tier, as_json: AsJson = False) -> None:
    """Which notifications a tier works on just now, since when, and where they go; the oldest first.

    Examples:
      notifier ctl inflight 5s
      notifier ctl inflight all --json | jq -r '.works[].merchant' | sort | uniq -c
    """
    body = {"to": address(tier), "action": "inflight", "timeout": 10}
    replies = talk(lambda operator: operator.ask("send", body, timeout=PROMPT))["replies"]
    works = sorted(_works(replies), key=lambda work: work.get("since") or "~")  # what waits stands behind all moments
    total = sum(reply["data"].get("total", len(reply["data"]["works"])) for reply in replies if "data" in reply)
    missing = ctl_answers.of_replies(replies)
    if as_json:
        print_json({"ok": not missing, "works": works, "total": total, "missing": missing})
    else:
        _print_works(works, datetime.now(UTC))
        if total > len(works):
            typer.echo(f"and {total - len(works)} more")
        for sentence in missing:
            complain(sentence)
    if missing:
        raise typer.Exit(1)


def stacks(tier: TierOrAll = ALL, as_json: AsJson = False) -> None:
    """Where processes stand just now: the stacks of their threads and tasks, for a process that hangs.

    A process whose loop is stuck is asked by a signal, so this works there, too.

    Examples:
      notifier ctl stacks 5s
    """
    to = address(tier)
    slots = talk(lambda operator: operator.ask("stacks", {"to": to}, timeout=PROMPT))["slots"]
    ok = all("text" in slot for slot in slots)
    if as_json:
        print_json({"ok": ok, "slots": slots})
    else:
        for slot in slots:
            _print_stacks(slot)
    if not ok:
        raise typer.Exit(1)


async def _status(operator: Asking) -> Status:
    shown, overrides = await asyncio.gather(operator.ask("status", timeout=PROMPT), entries(operator))
    return shown, overrides


async def _ping(operator: Asking) -> Outcome:
    began = time.perf_counter()
    answer = await operator.ask("ping", timeout=5)
    seconds = time.perf_counter() - began
    said = f"the master answers: pid {answer['pid']}, {seconds * 1000:.1f} ms"
    return Outcome(said, [], {**answer, "ms": round(seconds * 1000, 3)}, ok=True)


def _print_statuses(found: Sequence[tuple[str, Status | NotifierError]], as_json: bool) -> None:
    """One page after the other."""
    ok = not any(isinstance(result, NotifierError) for _, result in found)
    if as_json:
        machines = [
            {"machine": name, "error": str(result)}
            if isinstance(result, NotifierError)
            else {"machine": name, **result[0], "entries": result[1]}
            for name, result in found
        ]
        print_json({"ok": ok, "machines": machines})
    for number, (name, result) in enumerate([] if as_json else found):
        typer.echo(f"{chr(10) * bool(number)}== {ctl_answers.visible(name)}")
        if isinstance(result, NotifierError):
            complain(f"{ctl_answers.visible(name)}: {result}")
        else:
            ctl_view.print_page(*result, datetime.now(UTC))
    if not ok:
        raise typer.Exit(1)


def _works(replies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"slot": reply["slot"], **work}
        for reply in replies
        if reply["result"] == "done"
        for work in reply["data"]["works"]
    ]


def _print_works(works: Sequence[Mapping[str, Any]], now: datetime) -> None:
    if not works:
        typer.echo("nothing is in flight")
        return
    rows = [_work(work, now) for work in works]
    heads = ["NOTIFICATION", "MERCHANT", "TIER", "ATTEMPT", "FOR", "STATE", "TO"]
    print_table(heads, rows, right=("ATTEMPT", "FOR"))


def _work(work: Mapping[str, Any], now: datetime) -> list[str]:
    """A dash: not read yet, or not known."""
    since = work.get("since")
    return [
        *(_cell(work.get(name)) for name in ("notification", "merchant", "tier", "attempt")),
        _cell(since and ctl_spans.spelled((now - ctl_spans.read(since)).total_seconds())),
        *(_cell(work.get(name)) for name in ("state", "url")),
    ]


def _cell(value: object) -> str:
    return "–" if value is None else ctl_answers.visible(value)


def _print_stacks(slot: Mapping[str, Any]) -> None:
    if "text" in slot:
        typer.echo(f"== {slot['slot']}, pid {slot['pid']}, epoch {slot['epoch']}\n{slot['text'].rstrip()}\n")
        return
    complain(f"{slot['slot']}: {ctl_answers.visible(slot.get('error') or 'has no process just now')}")
    if slot.get("last"):
        typer.echo(f"== {slot['slot']}, where its last process stood when it hung\n{slot['last'].rstrip()}\n")
