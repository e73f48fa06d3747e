"""Arguments and options that several verbs of `notifier ctl` share."""

from __future__ import annotations

from typing import Annotated

import typer

from notifier.cli import ctl_spans, ctl_targets
from notifier.errors import InvalidInput

_WHO = "5s, tier:5s, or all."

#: Which processes; must be given.
Tier = Annotated[str, typer.Argument(metavar="TIER", help=_WHO)]
#: Which processes; all of them if nothing is said.
TierOrAll = Annotated[str, typer.Argument(metavar="[TIER]", help=_WHO, show_default=False)]

For = Annotated[
    str | None, typer.Option("--for", metavar="SPAN", help="End it by itself after 30s, 10m, 1h30m … Default: never.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why: `status` shows it to everybody.")]

ALL = ctl_targets.ALL


def span(text: str, option: str) -> float:
    """Seconds of an option's span of time; a usage error if it is none."""
    try:
        return ctl_spans.parse(text)
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
