"""`notifier ladder`: which attempt of a ladder comes when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from notifier.cli.options import AsJson
from notifier.cli.table import print_table
from notifier.domain.ladder import Ladder, named
from notifier.domain.tier import Tier, spelled
from notifier.settings import Settings, load


@dataclass(frozen=True, slots=True)
class Rung:
    """One attempt of the timetable. after: seconds since acceptance, if no callback took any time."""

    attempt: int
    tier: Tier
    after: int
    at: datetime | None


def ladder(
    which: Annotated[
        str | None,
        typer.Argument(metavar="LADDER", help="A name, or tiers such as 1s,3s,5s. Default: your default one."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Accepted then: 2026-11-21T09:00:00Z, or now. In UTC.")
    ] = None,
    every: Annotated[bool, typer.Option("--list", help="List the names: presets and [ladders].")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the timetable of a ladder: attempt, the tier it waits in, and how long after acceptance it comes.

    The times are those of callbacks that take no time: each tier's delay starts when the attempt before it ended.
    After the last attempt the notification is exhausted.

    Examples:
      notifier ladder
      notifier ladder wechat --from now
      notifier ladder 10s,1m,1h --json
      notifier ladder --list
    """
    settings = load()
    if every:
        if which is not None or start is not None:
            raise typer.BadParameter("--list names all ladders; leave out LADDER and --from")
        _print_names(settings, as_json)
        return
    chosen = settings.default_ladder if which is None else named(which, settings.named_ladders)
    rungs = list(timetable(chosen, _moment(start)))
    unserved = [tier.name for tier in sorted(set(chosen) - set(settings.tiers))]
    if as_json:
        _print_json(_as_json(chosen, rungs, unserved))
    else:
        _print_timetable(chosen, rungs, unserved)


def timetable(ladder: Ladder, accepted_at: datetime | None = None) -> Iterator[Rung]:
    """When each attempt of a ladder comes."""
    after = 0
    for attempt, tier in enumerate(ladder, start=1):
        after += tier.seconds
        yield Rung(attempt, tier, after, accepted_at and accepted_at + timedelta(seconds=after))


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    if text == "now":
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        _ = moment + timedelta(days=366 * 10)  # no ladder is longer
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is not a time such as 2026-11-21T09:00:00Z, or now", param_hint="--from"
        ) from None
    return moment


def _print_timetable(ladder: Ladder, rungs: list[Rung], unserved: list[str]) -> None:
    heads = ["ATTEMPT", "TIER", "AFTER"] + (["AT"] if rungs[0].at else [])
    rows = [
        [str(rung.attempt), rung.tier.name, spelled(rung.after)] + ([_iso(rung.at)] if rung.at else [])
        for rung in rungs
    ]
    print_table(heads, rows)
    if unserved:
        typer.echo(
            f"\nno process serves {', '.join(unserved)}: to use this ladder, make it the default (NOTIFIER_LADDER)\n"
            f'or add it to notifier.toml:\n\n  [ladders]\n  mine = "{ladder}"'
        )


def _as_json(ladder: Ladder, rungs: list[Rung], unserved: list[str]) -> Mapping[str, Any]:
    return {
        "ladder": str(ladder),
        "total_seconds": ladder.total,
        "unserved_tiers": unserved,
        "attempts": [
            {"attempt": rung.attempt, "tier": rung.tier.name, "after_seconds": rung.after}
            | ({"at": _iso(rung.at)} if rung.at else {})
            for rung in rungs
        ],
    }


def _print_names(settings: Settings, as_json: bool) -> None:
    default = settings.default_ladder
    if as_json:
        _print_json(
            [
                {"name": name, "ladder": str(ladder), "total_seconds": ladder.total, "default": ladder == default}
                for name, ladder in settings.named_ladders.items()
            ]
        )
        return
    rows = [
        [name + (" *" if ladder == default else ""), spelled(ladder.total), str(ladder)]
        for name, ladder in settings.named_ladders.items()
    ]
    print_table(["NAME", "TOTAL", "TIERS"], rows)
    typer.echo(f"\n* what a notification gets that names none: {default}")


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
