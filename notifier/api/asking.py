"""What only the agent does, asked of it; its answers as answers of HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from notifier.api.parts import Parts
from notifier.api.problems import KINDS, Problem
from notifier.errors import ChildFailed, NoAnswer, PeerBusy, PeerGone, RequestFailed

AGENT = "agent"
#: Seconds for an answer. A change waits for every process and every machine that is to have it.
PATIENCE = 30.0


async def ask_agent(parts: Parts, action: str, data: Mapping[str, Any], timeout: float = PATIENCE) -> Any:
    """What the agent answers. Raises Problem: what it refuses in its own words, or that it is not there."""
    _check_numbers(data)
    try:
        answer = await parts.line.ask_one(AGENT, action, dict(data), timeout)
    except ChildFailed as error:
        raise Problem("unavailable", _why(error)) from None
    match answer:
        case {"ok": value}:
            return value
        case {"problem": {"kind": str(kind), "detail": str(detail)}}:
            raise Problem(kind if kind in KINDS else "unavailable", detail)
    raise Problem("internal", f"the agent answered {action} with something else than an answer")


def _check_numbers(data: Mapping[str, Any]) -> None:
    """1e400 is JSON, and becomes a number here that is not."""
    try:
        json.dumps(data, allow_nan=False)
    except ValueError:
        raise Problem("invalid", "a number in it is larger than any that is possible") from None


def _why(error: ChildFailed) -> str:
    match error:
        case NoAnswer():
            return "the agent did not answer in time; what was asked for may still happen: look before you try again"
        case PeerGone():
            return "the agent is not running just now; it is started again by itself"
        case PeerBusy():
            return "the agent has too much to do just now"
        case RequestFailed() if "nobody is called" in str(error):
            return "there is no agent on this machine (notifier run --no-agent), and only it can do that"
    return f"the agent could not do it: {error}"
