"""In how many processes a change of the registry is in force, here and on other machines, as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from notifier.cli.ctl_answers import Account, of_push, visible


def account(live: Mapping[str, Any]) -> Account:
    """What came of it on this machine and on all others together. live: `Live` of the agent's answer."""
    others = list(live.get("machines", ()))
    return Account(
        live["live"] + sum(each.get("live", 0) for each in others),
        live["of"] + sum(each.get("of", 0) for each in others),
        [*_here(live), *_elsewhere(live)],
    )


def _here(live: Mapping[str, Any]) -> Iterator[str]:
    slots = live.get("slots", ())
    if isinstance(slots, list | tuple) and live["live"] != live["of"]:
        yield from of_push({"slots": slots}, [slot["slot"] for slot in slots]).missing


def _elsewhere(live: Mapping[str, Any]) -> Iterator[str]:
    told = set()
    for each in live.get("machines", ()):
        if "error" in each:
            told.add(each["machine"])
            yield f"machine {visible(each['machine'])}: {visible(each['error'])}; {_LATER}"
        elif each["live"] != each["of"]:
            yield f"machine {visible(each['machine'])}: live in {each['live']} of {each['of']} processes"
    for name in live.get("missing", ()):
        if name not in told:
            yield f"machine {visible(name)} did not answer; {_LATER}"


#: A machine that missed a change takes it over by itself (DESIGN §5).
_LATER = "it looks for changes every 10 s by itself"
