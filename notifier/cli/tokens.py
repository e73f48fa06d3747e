"""`notifier tokens`: who may use the HTTP API. Reading goes to the database, changing through the agent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from notifier import logs
from notifier.cli import ctl_spans
from notifier.cli.agent_line import ask_agent, who
from notifier.cli.ctl_answers import visible
from notifier.cli.ctl_line import print_json
from notifier.cli.ledger_line import reading
from notifier.cli.options import AsJson
from notifier.cli.table import print_table

if TYPE_CHECKING:
    from notifier.ledger.database import Database

app = typer.Typer(add_completion=False)


@app.callback()
def group() -> None:
    """Bearer tokens of the HTTP API, besides NOTIFIER_API__TOKEN, which may do everything.

    A token is shown once, when it is made; only its hash is kept.
    """


@app.command(short_help="make one; prints it")
def add(
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="read, write, or merchant: one that pulls its own notifications.")
    ],
    merchant: Annotated[
        str | None, typer.Option(metavar="MERCHANT", help="Whose it is; with the role merchant only.")
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Whom it was given to, and what for.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it; it is never shown again.

    Examples:
      notifier tokens add write --note "the shop's back office"
      notifier tokens add merchant --merchant shop-7
    """
    made = ask_agent("tokens.add", {"role": role, "merchant": merchant, "note": note, "who": who()})
    if as_json:
        print_json(made)
    else:
        typer.echo(made["token"])


@app.command("list", short_help="all of them, without the tokens themselves")
def list_(as_json: AsJson = False) -> None:
    """List the tokens there are: id, role, whose, since when.

    Examples:
      notifier tokens list
    """
    found = reading(_all)
    if as_json:
        print_json({"items": found})
    elif not found:
        typer.echo("there are no tokens")
    else:
        print_table(["TOKEN", "ROLE", "MERCHANT", "SINCE", "NOTE"], [_row(each) for each in found])


@app.command(short_help="make one worthless")
def remove(
    token: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")], as_json: AsJson = False
) -> None:
    """Make a token worthless. The API remembers what it looked up for 5 s; so long it may still be taken.

    Examples:
      notifier tokens remove tok_5f0c1a
    """
    removed = ask_agent("tokens.remove", {"id": token, "who": who()})
    if as_json:
        print_json({"ok": True, **(removed or {})})
    else:
        typer.echo(f"{token} is removed, and worthless within 5 s")


async def _all(database: Database) -> list[dict[str, Any]]:
    from notifier.ledger.tokens import list_tokens

    return [{**each.shown(), "created_at": logs.moment(each.created_at)} for each in await list_tokens(database)]


def _row(token: dict[str, Any]) -> list[str]:
    since = ctl_spans.moment(token["created_at"], datetime.now(UTC))
    return [token["id"], token["role"], token["merchant"] or "–", since, visible(token["note"] or "–")]
