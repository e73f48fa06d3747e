"""How merchants are shown to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import typer

from notifier.cli import ctl_spans
from notifier.cli.ctl_answers import visible
from notifier.cli.table import print_table, table_lines

_HEADS = ["MERCHANT", "STANDING", "SINCE", "UNTIL", "LADDER", "ACK", "URL"]


def print_list(page: Mapping[str, Any]) -> None:
    """A table. A dash: the service's own, or there is none."""
    now = datetime.now(UTC)
    if not page["items"]:
        typer.echo("there are no such merchants")
        return
    print_table(_HEADS, [_row(item, now) for item in page["items"]])
    if page["next"] is not None:
        typer.echo(f"\nThere are more: --after {page['next']}")


def print_whole(merchant: Mapping[str, Any]) -> None:
    """One merchant, line by line."""
    typer.echo("\n".join(whole(merchant, datetime.now(UTC))))


def whole(merchant: Mapping[str, Any], now: datetime) -> list[str]:
    """The lines of one merchant, with the bounds that are in force for it (`effective`)."""
    return table_lines(["merchant", merchant["id"]], [[name, value] for name, value in _lines(merchant, now)])


def _lines(of: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    if not of["added"]:
        yield "registered", "no, only blocked: its notifications are signed with the service's secret"
    yield "standing", _standing(of, now)
    for kind in ("disabled", "blocked"):
        if of.get(kind) and of["standing"] != kind:
            yield f"also {kind}", _off(of[kind], now)
    yield "url", visible(of["url"] or "none: only what names its own url is delivered")
    yield "ladder", _ladder(of) if of["ladder"] else "the default one"
    yield "acknowledges", of["ack"] or "the service's rule"
    yield "at once", f"{of['effective']['concurrency']} in each tier{_whose(of['concurrency'])}"
    rate = of["effective"]["rate"]
    yield "a second", "no bound" if rate is None else f"{rate:g} in each tier{_whose(of['rate'])}"
    if of["headers"]:
        yield "headers", visible(", ".join(of["headers"]))
    if of["secrets"]:
        ends = [f"one more until {ctl_spans.moment(each['until'], now)}" for each in of["secrets"] if each["until"]]
        yield "secrets", ", ".join(["one", *ends])
    yield "changed", f"{of['changed_at']}, version {of['version']}"


def _whose(own: object) -> str:
    return "" if own is not None else ", the service's bound"


def _row(of: Mapping[str, Any], now: datetime) -> list[str]:
    return [
        of["id"],
        of["standing"],
        _moment(of["since"], now),
        _moment(of["until"], now),
        _ladder(of) if of["ladder"] else "–",
        of["ack"] or "–",
        visible(of["url"] or "–"),
    ]


def _standing(of: Mapping[str, Any], now: datetime) -> str:
    if of["since"] is None:
        return str(of["standing"])
    return f"{of['standing']} {_off(of, now)}"


def _off(off: Mapping[str, Any], now: datetime) -> str:
    until = f" until {ctl_spans.moment(off['until'], now)}" if off["until"] else ""
    why = f": {visible(off['why'])}" if off["why"] else ""
    by = f" by {visible(off['who'])}" if off["who"] else ""
    return f"since {_moment(off['since'], now)}{by}{until}{why}"


def _moment(iso: str | None, now: datetime) -> str:
    return "–" if iso is None else ctl_spans.moment(iso, now)


def _ladder(of: Mapping[str, Any]) -> str:
    return " ".join(of["ladder"])
