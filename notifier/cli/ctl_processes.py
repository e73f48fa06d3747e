"""The verbs of `notifier ctl` that make processes do something: end, start, read settings, answer a message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from notifier.cli import ctl_answers
from notifier.cli.ctl_line import PATIENT, PROMPT, complain, print_json, talk
from notifier.cli.ctl_options import ALL, TierOrAll, span
from notifier.cli.ctl_targets import address
from notifier.cli.options import AsJson
from notifier.errors import PeerGone
from notifier.supervision.operator import Operator

#: Seconds that a master which has ended all processes gets to leave, too.
LAST_STEPS = 2.0


def drain(tier: TierOrAll = ALL, as_json: AsJson = False) -> None:
    """Let processes finish what runs and end; they stay away until `restart`. Returns when they have ended.

    Their notifications wait in RabbitMQ. `pause` does the same and keeps the process; the service itself goes on
    running, see `shutdown`.

    Examples:
      notifier ctl drain 5s
    """
    to = address(tier)
    slots = talk(lambda operator: operator.ask("drain", {"to": to}, timeout=PATIENT))["slots"]
    _conclude(slots, "drained", [_drained(slot) for slot in slots], as_json)


def restart(
    tier: TierOrAll = ALL,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="One at a time. That is always so; the word is for scripts that say it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restart processes, one at a time: each finishes what runs, and the next one waits until its successor is ready.

    If one does not become ready, the others are left as they are. Also starts what `drain` has ended, and at once what
    has died so often that it waits; if it dies again, it waits as after its first death.

    Examples:
      notifier ctl restart 5s
      notifier ctl restart --rolling
    """
    to = address(tier)
    slots = talk(lambda operator: operator.ask("restart", {"to": to}, timeout=PATIENT))["slots"]
    _conclude(slots, "restarted", [_restarted(slot) for slot in slots], as_json)


def reload(as_json: AsJson = False) -> None:
    """Have the service read its settings again, as SIGHUP does.

    They are checked first; with a mistake in them nothing changes. What can change at once does, and the rest is named.
    The environment of a running service cannot change, so this is about notifier.toml.

    Examples:
      notifier ctl reload
    """
    done = talk(lambda operator: operator.ask("reload", timeout=PROMPT))
    if as_json:
        print_json(done)
        return
    lines = [f"{said}: {', '.join(done[kind])}" for kind, said in _RELOADED.items() if done.get(kind)]
    typer.echo("\n".join(lines) or "nothing has changed")


_RELOADED = {
    "live": "in force now",
    "restart": "after `notifier ctl restart`",
    "service": "after the service was stopped and started",
}


def shutdown(
    quick: Annotated[bool, typer.Option("--quick", help="Leave at once; what ran is delivered again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the service, as SIGTERM does: what runs is finished. Returns when it has ended.

    Examples:
      notifier ctl shutdown
    """
    talk(lambda operator: _shutdown(operator, quick))
    if as_json:
        print_json({"ok": True})
    else:
        typer.echo("the service has ended")


def send(
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="Its name, as the processes or an extension know it.")
    ],
    data: Annotated[str, typer.Option("--data", metavar="JSON", help="What goes with it.")] = "null",
    to: Annotated[str, typer.Option("--to", metavar="WHO", help="5s, all, any, or any other group or slot.")] = ALL,
    request: Annotated[bool, typer.Option("--request", help="Wait for the answers and print them.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", metavar="SPAN", help="Longest wait for an answer.")] = "30s",
    as_json: AsJson = False,
) -> None:
    """Send a named action to processes. Without --request it is enough that it is on its way.

    Exit code: 0 if it reached everybody, with --request if everybody has done it.

    Examples:
      notifier ctl send refresh-blacklist --to all
      notifier ctl send price --data '{"sku": 7}' --to any --request --timeout 2s
    """
    body = {"to": address(to), "action": action, "data": _json(data), "reply": request}
    seconds = span(timeout, "--timeout")
    replies = talk(lambda operator: operator.ask("send", {**body, "timeout": seconds}, timeout=seconds + PROMPT))[
        "replies"
    ]
    missing = ctl_answers.of_replies(replies)
    if as_json:
        print_json({"ok": not missing, "replies": replies})
    else:
        for reply in replies:
            if reply["result"] in ("done", "sent", "waits"):
                typer.echo(f"{reply['slot']}: {_reply(reply)}")
        for sentence in missing:
            complain(sentence)
    if missing:
        raise typer.Exit(1)


async def _shutdown(operator: Operator, quick: bool) -> None:
    """Returns when the master is gone, or is as good as gone: whoever starts the next one then is not in its way."""
    master = (await operator.ask("ping", timeout=PROMPT))["pid"]
    with _ending(master) as gone:
        await operator.ask("shutdown", {"quick": quick}, timeout=PROMPT)
        with contextlib.suppress(PeerGone):
            async for _ in operator.events():
                pass  # the end of the line is the end of all processes but the master
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_STEPS):
                await gone.wait()


@contextlib.contextmanager
def _ending(pid: int) -> Iterator[asyncio.Event]:
    """An event that is set when the process has ended; never, if it cannot be seen from here."""
    ended = asyncio.Event()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        ended.set()
        yield ended
        return
    except OSError:
        yield ended
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _conclude(slots: Sequence[Mapping[str, Any]], good: str, sentences: Sequence[str], as_json: bool) -> None:
    """Tell what came of it in each slot; those that are not as wanted on stderr, and by the exit code."""
    ok = all(slot["result"] == good for slot in slots)
    if as_json:
        print_json({"ok": ok, "slots": slots})
    else:
        for slot, sentence in zip(slots, sentences, strict=True):
            if slot["result"] == good:
                typer.echo(sentence)
            else:
                complain(sentence)
    if not ok:
        raise typer.Exit(1)


def _drained(slot: Mapping[str, Any]) -> str:
    if slot["result"] == "drained":
        return f"{slot['slot']} is drained, and stays away until: notifier ctl restart {slot['slot']}"
    return f"{slot['slot']} has not ended in time"


def _restarted(slot: Mapping[str, Any]) -> str:
    if slot["result"] == "restarted":
        return f"{slot['slot']} is ready again after {slot['seconds']:.1f} s, pid {slot['pid']}, epoch {slot['epoch']}"
    return f"{slot['slot']}: {ctl_answers.visible(slot.get('error') or slot['result'])}"


def _reply(reply: Mapping[str, Any]) -> str:
    match reply["result"]:
        case "done":
            return json.dumps(reply.get("data"), ensure_ascii=False)
        case "waits":
            return "it waits there until the process is ready"
        case _:
            return "sent"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--data") from None
