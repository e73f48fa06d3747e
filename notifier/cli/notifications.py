"""`notifier notifications`: what became of each. Reading goes to the database, changing through the agent."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from notifier.cli import live, notifications_view, replays
from notifier.cli.agent_line import ask_agent, who
from notifier.cli.choosing import Error, OfMerchant, OfTier, Reference, Since, Status, Until, WithReason, chosen
from notifier.cli.ctl_line import complain, print_json
from notifier.cli.ctl_options import Reason
from notifier.cli.ledger_line import reading
from notifier.cli.options import AsJson
from notifier.errors import NotFound, NotifierError

if TYPE_CHECKING:
    from notifier.ledger.database import Database

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Notifications, as `list` shows them.")]

app = typer.Typer(add_completion=False)


@app.callback()
def group() -> None:
    """The ledger: every notification, every attempt, and what the merchants answered.

    `list`, `show`, `undelivered` and `export` read the database, also while the service is down. `replay` and `cancel`
    ask the agent of the running service.
    """


@app.command("list", short_help="notifications, the newest first")
def list_(
    status: Status = None,
    merchant: OfMerchant = None,
    reference: Reference = None,
    tier: OfTier = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    reason: WithReason = None,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="To page on, as the last page said.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List notifications, the newest first.

    Examples:
      notifier notifications list --merchant shop-7 --since 2h
      notifier notifications list --status exhausted --json | jq -r '.items[].id'
    """
    said = chosen(status, merchant, reference, tier, since, until, error, reason)
    page = reading(lambda database: _page(database, said, after, limit))
    if as_json:
        print_json(page)
    else:
        notifications_view.print_list(page)


@app.command(short_help="one notification: its ladder, step by step")
def show(
    notification: Annotated[str, typer.Argument(metavar="ID")],
    payload: Annotated[bool, typer.Option("--payload", help="Print only the payload, byte for byte.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one notification: its ladder as a timeline, when each attempt was due and began, what it was answered.

    Examples:
      notifier notifications show ntf_2f6c1d
      notifier notifications show ntf_2f6c1d --payload > payload.json
    """
    found = reading(lambda database: _one(database, notification, payload))
    if isinstance(found, bytes):
        sys.stdout.buffer.write(found)
    elif as_json:
        print_json(found)
    else:
        notifications_view.print_whole(found)


@app.command(short_help="what has not arrived, and why")
def undelivered(
    status: Status = None,
    merchant: OfMerchant = None,
    reference: Reference = None,
    tier: OfTier = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    reason: WithReason = None,
    as_json: AsJson = False,
) -> None:
    """What has not arrived and why: counted by merchant, status, reason and last error, the most first.

    Examples:
      notifier notifications undelivered
      notifier notifications undelivered --merchant shop-7 --since 1d
    """
    said = chosen(status, merchant, reference, tier, since, until, error, reason)
    groups = reading(lambda database: _undelivered(database, said))
    if as_json:
        print_json({"items": groups})
    else:
        notifications_view.print_undelivered(groups)


@app.command(short_help="send again: some, or all that a filter chooses")
def replay(
    ids: Ids = None,
    status: Status = None,
    merchant: OfMerchant = None,
    reference: Reference = None,
    tier: OfTier = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    reason: WithReason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what the filter chooses.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask. Needed with a filter where there is no terminal.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait until all that is chosen is sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send again, from the first step of the ladder, under the same webhook-id.

    With IDs at once; with a filter as a job of the agent, which survives a restart, see `notifier notifications
    replays`. What is held or still on its way is left alone, and so is what has no payload any more (retention).

    Exit code: 1 if one of the IDs could not be sent again.

    Examples:
      notifier notifications replay ntf_2f6c1d
      notifier notifications replay --status exhausted --merchant shop-7 --since 1d --dry-run
    """
    said = chosen(status, merchant, reference, tier, since, until, error, reason)
    if bool(ids) == bool(said):
        raise typer.BadParameter("name notifications, or choose them with a filter such as --status exhausted")
    if ids:
        if dry_run or follow:
            raise typer.BadParameter("--dry-run and --follow go with a filter, not with IDs")
        _each(ids, "notifications.replay", {}, as_json, lambda done: f"{done['id']} is sent again, run {done['run']}")
    else:
        replays.by_filter(said, dry_run, yes, follow, as_json)


@app.command(short_help="give up what waits")
def cancel(ids: Ids = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """Give notifications up: no attempt of them begins any more. One that is under way is finished.

    Exit code: 0 only if all are cancelled in every process of every machine.

    Examples:
      notifier notifications cancel ntf_2f6c1d --reason "order 42 was refunded"
    """
    if not ids:
        raise typer.BadParameter("name the notifications", param_hint="ID...")
    _each(ids, "notifications.cancel", {"why": reason}, as_json, _cancelled)


@app.command("replays", short_help="jobs of `replay`: how far they are")
def replays_(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only this one.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="End it where it is.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The jobs of `replay` with a filter, the newest first, and how far they have come.

    Examples:
      notifier notifications replays
      notifier notifications replays rpl_90ac17 --stop
    """
    if stop and job is None:
        raise typer.BadParameter("name the job to end", param_hint="--stop")
    if stop:
        ask_agent("replays.stop", {"id": job, "who": who()})
    replays.show(job, limit, as_json)


@app.command(short_help="all that a filter chooses, as CSV")
def export(
    csv: Annotated[bool, typer.Option("--csv", help="The one format there is.")] = False,
    attempts: Annotated[bool, typer.Option("--attempts", help="A line for each attempt instead.")] = False,
    status: Status = None,
    merchant: OfMerchant = None,
    reference: Reference = None,
    tier: OfTier = None,
    since: Since = None,
    until: Until = None,
    error: Error = None,
    reason: WithReason = None,
) -> None:
    """Write all that the filter chooses to stdout, as CSV with a line of heads (RFC 4180).

    Examples:
      notifier notifications export --csv --since 30d > notifications.csv
      notifier notifications export --csv --attempts --merchant shop-7 > attempts.csv
    """
    if not csv:
        raise typer.BadParameter("say which format: --csv")
    said = chosen(status, merchant, reference, tier, since, until, error, reason)
    reading(lambda database: _export(database, said, attempts))


def _each(ids: Sequence[str], action: str, more: Mapping[str, Any], as_json: bool, said: Any) -> None:
    """One after the other; what fails is told, and the rest is done."""
    results: list[dict[str, Any]] = []
    for id_ in dict.fromkeys(ids):
        try:
            done = ask_agent(action, {"id": id_, "who": who(), **more})
        except NotifierError as error:
            results.append({"id": id_, "error": str(error)})
            if not as_json:
                complain(str(error))
            continue
        account = live.account(done["live"]) if done.get("live") else None
        results.append({**done, "ok": account is None or account.ok})
        if not as_json:
            typer.echo(said(done))
            for sentence in account.missing if account else ():
                complain(sentence)
    ok = all(result.get("ok") for result in results)
    if as_json:
        print_json({"ok": ok, "items": results})
    if not ok:
        raise typer.Exit(1)


def _cancelled(done: Mapping[str, Any]) -> str:
    lived = f": {live.account(done['live']).said}" if done.get("live") else ""
    return f"{done['id']} is cancelled{lived}"


async def _page(database: Database, said: Mapping[str, Any], after: str | None, limit: int) -> dict[str, Any]:
    from notifier.ledger.notifications import Filter, list_notifications

    page = await list_notifications(database, Filter.parse(said), after, limit)
    return {"items": list(page.items), "next": page.next}


async def _one(database: Database, notification: str, payload: bool) -> Mapping[str, Any] | bytes:
    from notifier.ledger import notifications as ledger

    found = await ledger.show(database, notification)
    if found is None:
        raise NotFound(f"the ledger knows no notification {notification!r:.140}; `notifier notifications list` does")
    if not payload:
        return found
    kept = await ledger.payload(database, notification)
    if kept is None:
        raise NotFound(f"the payload of {notification} is gone: it was kept as long as retention.payloads says")
    return kept


async def _undelivered(database: Database, said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    from notifier.ledger import notifications as ledger

    return list(await ledger.undelivered(database, ledger.Filter.parse(said)))


async def _export(database: Database, said: Mapping[str, Any], attempts: bool) -> None:
    from notifier.ledger import export as exporting
    from notifier.ledger.notifications import Filter

    await exporting.write(database, Filter.parse(said), sys.stdout, attempts=attempts)
