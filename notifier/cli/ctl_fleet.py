"""The same verb on every machine of the fleet: this machine's agent asks the others, and each answers for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import typer

from notifier.cli import ctl_spans
from notifier.cli.agent_line import AGENT, NoAgent, asked, who
from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_line import PROMPT, Asking, complain, print_json, talk
from notifier.cli.options import AsJson
from notifier.cli.table import print_table
from notifier.errors import NoAnswer, NotifierError, RequestFailed
from notifier.supervision.channel import Body

#: Verbs that make sense on all machines at once, and end no process that has to answer.
VERBS = ("status", "ping", "pause", "resume", "block", "unblock", "close", "set", "log-level")
#: Seconds for another machine: a change that it cannot apply in 5 is told as that.
PATIENCE = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a verb on one machine. said: for people; missing: a sentence for each that did not do it; shown: as
    JSON, without `ok`. warnings: worth knowing, and no failure.
    """

    said: str
    missing: Sequence[str]
    shown: Mapping[str, Any]
    ok: bool
    warnings: Sequence[str] = field(default=())


class Elsewhere:
    """The master of one machine of the fleet, asked through the agent here."""

    def __init__(self, operator: Asking, machine: str, here: str) -> None:
        self._operator = operator
        self._machine = machine
        self._here = here

    async def ask(self, verb: str, body: Mapping[str, Any] | None = None, *, timeout: float = 30.0) -> Body:
        """See `Operator.ask`. Raises RequestFailed with the machine's sentence, NoAnswer if it did not answer."""
        patience = min(timeout, PATIENCE)
        words = {**(body or {}), "who": f"{who()} on {self._here}"}
        question = {"verb": verb, "body": words, "timeout": patience, "machine": self._machine}
        told = await asked(self._operator, "fleet.ask", question, patience + PATIENCE)
        if len(told["machines"]) != 1:
            raise RequestFailed(
                f"{len(told['machines'])} services call themselves so: give each a NOTIFIER_MACHINE of its own"
            )
        (answer,) = told["machines"]
        if told["missing"]:
            raise NoAnswer(visible(answer["error"]))
        if "error" in answer:
            raise RequestFailed(visible(answer["error"]))
        return dict(answer["answer"])


def on_all(context: typer.Context) -> bool:
    """Whether `--fleet` was said before the verb."""
    return bool(context.obj)


def conclude(context: typer.Context, work: Callable[[Asking], Awaitable[Outcome]], as_json: bool) -> None:
    """Do it here, or on all machines; print what came of it; exit with 1 unless everybody did it."""
    if not on_all(context):
        outcome = talk(work)
        if as_json:
            print_json({"ok": outcome.ok, **outcome.shown})
        else:
            typer.echo(outcome.said)
            for sentence in outcome.missing:
                complain(sentence)
        for sentence in outcome.warnings:
            complain(sentence)
        ok = outcome.ok
    else:
        ok = _conclude_all(talk(lambda operator: everywhere(operator, work)), as_json)
    if not ok:
        raise typer.Exit(1)


async def everywhere(operator: Asking, work: Callable[[Asking], Awaitable[T]]) -> list[tuple[str, T | NotifierError]]:
    """What comes of it on each machine, this one first; an error for one that did not answer, or could not."""
    known = await machines(operator)
    here = next(machine["machine"] for machine in known if machine["here"])
    names = list(dict.fromkeys([here, *(machine["machine"] for machine in known)]))

    async def on(name: str) -> T | NotifierError:
        alone = [machine["machine"] for machine in known].count(name) == 1
        try:
            return await work(operator if name == here and alone else Elsewhere(operator, name, here))
        except NotifierError as error:
            return error

    return list(zip(names, await asyncio.gather(*(on(name) for name in names)), strict=True))


async def machines(operator: Asking) -> list[dict[str, Any]]:
    """The machines that the agent here knows, this one first. Raises NoAgent."""
    return list((await _agent(operator))["fleet"])


async def _agent(operator: Asking) -> Mapping[str, Any]:
    """What the agent says of itself. Raises NoAgent."""
    slots = (await operator.ask("status", timeout=PROMPT))["slots"]
    statistics = next((slot["statistics"] for slot in slots if slot["slot"] == AGENT), None)
    if statistics is None:
        raise NoAgent("this service runs without an agent (notifier run --no-agent), so it knows no other machine")
    if not statistics.get("fleet"):
        raise NoAgent("the agent of this service is not up yet, and without it no other machine is known")
    return dict(statistics)


def fleet(as_json: AsJson = False) -> None:
    """The machines of this namespace, as they announce themselves every 5 s; one is forgotten after 20 s.

    REGISTRY is the version of the merchants that a machine has. TWIN: another service has the same name, and operators
    cannot tell the two apart: give one of them another NOTIFIER_MACHINE.

    Exit code: 1 if a machine does not answer, or two have the same name.

    Examples:
      notifier ctl fleet
      notifier ctl --fleet status
    """
    known, told, dropped = talk(_fleet)
    shown = [{**machine, **_counted(told[machine["machine"]])} for machine in known]
    ok = all("error" not in machine and not machine["twin"] for machine in shown)
    if as_json:
        print_json({"ok": ok, "machines": shown, "dropped": dropped})
    else:
        now = datetime.now(UTC)
        heads = ["MACHINE", "READY", "SINCE", "HEARD", "REGISTRY", "API", ""]
        print_table(heads, [_row(machine, now) for machine in shown], right=("REGISTRY",))
        for machine in shown:
            if "error" in machine:
                complain(f"{visible(machine['machine'])}: {machine['error']}")
        if dropped:
            counted = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))
            complain(f"messages that were not believed: {counted}. Have all machines one signing secret and one time?")
    if not ok:
        raise typer.Exit(1)


async def _fleet(operator: Asking) -> tuple[list[dict[str, Any]], dict[str, Body | NotifierError], dict[str, int]]:
    """The machines, the status of each, and how many messages were not believed, by reason."""

    async def status(asking: Asking) -> Body:
        return await asking.ask("status", timeout=PROMPT)

    said = await _agent(operator)
    return list(said["fleet"]), dict(await everywhere(operator, status)), dict(said.get("fleet_dropped") or {})


def _counted(status: Body | NotifierError) -> dict[str, Any]:
    if isinstance(status, NotifierError):
        return {"error": str(status)}
    slots = status["slots"]
    urls = [slot["statistics"]["url"] for slot in slots if slot["statistics"].get("url")]
    return {
        "ready": sum(slot["state"] == "ready" for slot in slots),
        "of": len(slots),
        "since": status["since"],
        "address": urls[0] if urls else None,
    }


def _row(machine: Mapping[str, Any], now: datetime) -> list[str]:
    heard = "here" if machine["here"] else f"{ctl_spans.spelled(machine['heard_s'])} ago"
    return [
        visible(machine["machine"]),
        f"{machine['ready']} of {machine['of']}" if "ready" in machine else "–",
        ctl_spans.moment(machine["since"], now) if machine.get("since") else "–",
        heard,
        str(machine.get("registry", "–")),
        visible(machine.get("address") or "–"),
        "TWIN" if machine["twin"] else "",
    ]


def _conclude_all(results: Sequence[tuple[str, Outcome | NotifierError]], as_json: bool) -> bool:
    ok = all(isinstance(result, Outcome) and result.ok for _, result in results)
    if as_json:
        print_json({"ok": ok, "machines": [{"machine": name, **_shown(result)} for name, result in results]})
        return ok
    for name, result in results:
        if isinstance(result, Outcome):
            typer.echo(f"{visible(name)}: {result.said}")
            sentences = [*result.missing, *result.warnings]
        else:
            sentences = [str(result)]
        for sentence in sentences:
            complain(f"{visible(name)}: {sentence}")
    return ok


def _shown(result: Outcome | NotifierError) -> dict[str, Any]:
    if isinstance(result, Outcome):
        return {"ok": result.ok, **result.shown}
    return {"ok": False, "error": str(result)}
