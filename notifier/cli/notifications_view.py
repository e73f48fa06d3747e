"""How notifications of the ledger are shown to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from notifier.cli import ctl_spans, timeline
from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_events import print_line
from notifier.cli.table import print_table, table_lines

#: Characters of a payload that are printed below the timeline; `--payload` prints all of it.
_SHORT = 1000


def print_list(page: Mapping[str, Any]) -> None:
    """A table, the newest first. A dash: not known, or there is none."""
    now = datetime.now(UTC)
    if not page["items"]:
        typer.echo("there are no such notifications")
        return
    heads = ["NOTIFICATION", "MERCHANT", "ACCEPTED", "STATUS", "STEP", "TIER", "DUE", "LAST ANSWER", "REFERENCE"]
    print_table(heads, [_row(item, now) for item in page["items"]], right=("STEP",))
    if page["next"] is not None:
        typer.echo(f"\nThere are more: --after {page['next']}")


def print_undelivered(groups: Sequence[Mapping[str, Any]]) -> None:
    """A table of counts."""
    now = datetime.now(UTC)
    if not groups:
        typer.echo("everything has arrived")
        return
    heads = ["COUNT", "MERCHANT", "STATUS", "WHY", "LAST ANSWER", "OLDEST", "NEWEST"]
    print_table(heads, [_group(group, now) for group in groups], right=("COUNT",))
    total = sum(group["count"] for group in groups)
    typer.echo(f"\n{total:,} in all. To send again what has ended: notifier notifications replay --status exhausted …")


def print_whole(notification: Mapping[str, Any]) -> None:
    """What is known of one, its timeline, and the beginning of its payload."""
    now = datetime.now(UTC)
    rows = [[name, value] for name, value in _lines(notification, now)]
    typer.echo("\n".join(table_lines(["notification", visible(notification["id"])], rows)) + "\n")
    for line in timeline.lines(notification, now):
        print_line(line.text, line.colour)
    typer.echo("\n" + _payload(notification))


def status(of: Mapping[str, Any]) -> str:
    """`held (disabled)`."""
    return f"{of['status']} ({visible(of['reason'])})" if of["reason"] else str(of["status"])


def _lines(of: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    yield "status", status(of) + (f": {visible(of['detail'])}" if of["detail"] else "")
    yield "merchant", visible(of["merchant"])
    if of["reference"]:
        yield "reference", visible(of["reference"])
    yield "url", visible(of["url"] or "the merchant's registered one")
    yield "ladder", " ".join(of["ladder"]) if of["ladder"] else "the merchant's, or the default one"
    yield "accepted", str(of["accepted_at"])
    if of["finished_at"]:
        took = (ctl_spans.read(of["finished_at"]) - ctl_spans.read(of["accepted_at"])).total_seconds()
        yield "finished", f"{of['finished_at']}, {ctl_spans.spelled(took)} later"
    tries = "1 attempt" if of["attempts"] == 1 else f"{of['attempts']} attempts"
    yield "attempts", tries + (f", run {of['run']}" if of["run"] else "")


def _row(of: Mapping[str, Any], now: datetime) -> list[str]:
    finished = of["status"] not in timeline.UNFINISHED
    steps = f"/{len(of['ladder'])}" if of["ladder"] else ""
    return [
        visible(of["id"]),
        visible(of["merchant"] or "–"),
        ctl_spans.moment(of["accepted_at"], now),
        status(of),
        "–" if of["step"] is None else f"{of['step'] + 1}{steps}",
        of["tier"] or "–",
        "–" if finished or of["due_at"] is None else ctl_spans.moment(of["due_at"], now),
        _last(of),
        visible(of["reference"] or "–"),
    ]


def _group(of: Mapping[str, Any], now: datetime) -> list[str]:
    return [
        f"{of['count']:,}",
        visible(of["merchant"] or "–"),
        of["status"],
        visible(of["reason"] or "–"),
        _last(of),
        ctl_spans.moment(of["oldest"], now),
        ctl_spans.moment(of["newest"], now),
    ]


def _last(of: Mapping[str, Any]) -> str:
    error, code = of.get("last_error"), of.get("last_status")
    if error in (None, "status"):
        return "–" if code is None else str(code)
    return error if code is None else f"{error} ({code})"


def _payload(of: Mapping[str, Any]) -> str:
    if not of["payload_kept"]:
        return "payload: gone, as retention.payloads says"
    text = of.get("payload")
    if text is None:
        return "payload: no text; print it with --payload"
    shown = "\n".join(visible(line) for line in text[:_SHORT].splitlines())
    return f"payload{', its beginning' * (len(text) > _SHORT)}:\n{shown}"
