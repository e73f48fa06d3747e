"""In how many processes a change of the registry is in force, here and on other machines, as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from notifier.cli.ctl_answers import Account, of_push, visible


def account(live: Mapping[str, Any]) -> Account:
    """What came of it on this machine and on all others together. live: `Live` of the agent's answer."""
    others = live["machines"]
    return Account(
        live["live"] + sum(each["live"] for each in others),
        live["of"] + sum(each["of"] for each in others),
        [*_here(live), *_elsewhere(live)],
    )


def _here(live: Mapping[str, Any]) -> Iterator[str]:
    late = [slot for slot in live["slots"] if slot["slot"] in live["missing"]]
    yield from of_push({"slots": late}, [slot["slot"] for slot in late]).missing


def _elsewhere(live: Mapping[str, Any]) -> Iterator[str]:
    for each in live["machines"]:
        if each["live"] != each["of"]:
            yield f"machine {visible(each['machine'])} has it in {each['live']} of {each['of']} processes"
    slots = {slot["slot"] for slot in live["slots"]}
    for name in live["missing"]:
        if name not in slots:  # it takes the change over by itself (DESIGN §5)
            yield (
                f"machine {visible(name)} does not have it yet: it did not answer, or could not; "
                "it looks for changes every 10 s"
            )
