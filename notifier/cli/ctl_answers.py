"""What came of a request in each process, as sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """Of a change that was pushed. live: processes that it is in force in; missing: a sentence per process else."""

    live: int
    addressed: int
    missing: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everybody addressed has it."""
        return self.live == self.addressed and not self.missing

    @property
    def said(self) -> str:
        """`live in 5 of 5 processes`."""
        return f"live in {self.live} of {self.addressed} process{'' if self.addressed == 1 else 'es'}"


def of_push(pushed: Mapping[str, Any], addressed: Sequence[str]) -> Account:
    """addressed: names of the slots that the change is meant for; the others get it, too, and have no use for it."""
    results = [result for result in pushed["slots"] if result["slot"] in addressed]
    live = sum(result["result"] == "applied" for result in results)
    missing = [_missing(result) for result in results if result["result"] != "applied"]
    absent = sorted(set(addressed) - {result["slot"] for result in results})
    return Account(live, len(addressed), [*missing, *(f"{name} is not there any more" for name in absent)])


def _missing(result: Mapping[str, Any]) -> str:
    slot = result["slot"]
    match result:
        case {"result": "gone"}:
            return f"{slot} has no process just now; its next one has it before it does anything"
        case {"result": "timeout", "restarted": True}:
            return f"{slot} did not answer in time and was killed; its next process has it before it does anything"
        case {"result": "timeout"}:
            return f"{slot} did not answer in time; it may not have it yet (`notifier ctl status` tells)"
        case _:
            return f"{slot} could not apply it, and tries again: {visible(result.get('error') or result['result'])}"


def of_replies(replies: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each process that did not do what it was told; none if all did."""
    return [
        f"{reply['slot']}: {visible(reply.get('error') or reply['result'])}"
        for reply in replies
        if reply["result"] not in ("done", "sent", "waits")
    ]


def visible(text: object) -> str:
    """What others wrote, in one line, without what a terminal would obey."""
    said = str(text)
    return said if said.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in said)
