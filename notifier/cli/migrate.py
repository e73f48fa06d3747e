"""`notifier migrate`: bring the ledger's database up to this version."""

from __future__ import annotations

import asyncio

import typer

from notifier.cli.ctl_line import print_json
from notifier.cli.options import AsJson
from notifier.settings import load, without_password


def migrate(as_json: AsJson = False) -> None:
    """Bring the ledger's database up to this version of notifier, or make it. The agent does so when it starts.

    Several at once are no harm: they wait for each other. A database that a newer notifier has made is left alone.

    Exit code: 1 if the database cannot be reached, 78 if it is a newer one, or not a ledger.

    Examples:
      notifier migrate
      NOTIFIER_DATABASE_URL=postgresql://notifier@db/notifier notifier migrate
    """
    from notifier.ledger import migrating

    url = load().database
    before, after = asyncio.run(migrating.migrate(url))
    shown = without_password(url)
    if as_json:
        print_json({"database": shown, "before": before, "after": after})
    elif before == after:
        typer.echo(f"{shown} is up to date: {after}")
    else:
        typer.echo(f"{shown} is at {after} now; before: {before or 'empty'}")
