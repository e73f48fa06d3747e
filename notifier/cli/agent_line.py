"""What is asked of the agent: everything that changes merchants, notifications or tokens goes through it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Any

from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_line import PROMPT, Asking, talk
from notifier.errors import Conflict, DatabaseUnavailable, InvalidInput, NoAnswer, NotFound, NotifierError

#: The agent's slot.
AGENT = "agent"

_KINDS: Mapping[str, type[NotifierError]] = {
    "not-found": NotFound,
    "conflict": Conflict,
    "invalid": InvalidInput,
    "unavailable": DatabaseUnavailable,
}


class NoAgent(NotifierError):
    """The agent of this service did not do it: there is none, or it did not answer. What it did is not known then."""


def ask_agent(action: str, data: Mapping[str, Any], timeout: float = PROMPT) -> Any:
    """What the agent of the service in this runtime directory answers.

    Raises NoMaster, NoAgent; NotFound, Conflict, InvalidInput and DatabaseUnavailable with the agent's own sentence.
    """
    return talk(lambda operator: asked(operator, action, data, timeout))


async def asked(operator: Asking, action: str, data: Mapping[str, Any], timeout: float = PROMPT) -> Any:
    """The same on a line that is open. timeout: seconds for the agent; the master gets a little more."""
    slots = (await operator.ask("status", timeout=PROMPT))["slots"]
    if all(slot["slot"] != AGENT for slot in slots):
        raise NoAgent("this service runs without an agent (notifier run --no-agent), and nobody else can change that")
    body = {"to": AGENT, "action": action, "data": dict(data), "timeout": timeout}
    try:
        (reply,) = (await operator.ask("send", body, timeout=timeout + PROMPT))["replies"]
    except NoAnswer as error:
        raise NoAgent(f"the agent did not answer ({error})") from None
    if reply["result"] != "done":
        raise NoAgent(f"the agent did not do it ({visible(reply.get('error') or reply['result'])})")
    return _taken(reply["data"])


def who() -> str:
    """Who asks, for the log and the ledger."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user that nobody has named
        return f"uid {os.getuid()}"


def _taken(answer: Any) -> Any:
    match answer:
        case {"ok": taken}:
            return taken
        case {"problem": {"kind": str(kind), "detail": str(detail)}}:
            raise _KINDS.get(kind, NotifierError)(visible(detail))
    raise NoAgent("the agent's answer cannot be understood: do service and command come from the same notifier?")
