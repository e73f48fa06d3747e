"""`notifier merchants`: who is told, where, and how. Reading goes to the database, changing through the agent."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from notifier.cli import live, merchants_view
from notifier.cli.agent_line import ask_agent, who
from notifier.cli.ctl_line import complain, print_json
from notifier.cli.ctl_options import For, Reason, span
from notifier.cli.ledger_line import reading
from notifier.cli.options import AsJson
from notifier.cli.stating import stated
from notifier.domain.notification import check_known_merchant, check_merchant
from notifier.errors import NotFound
from notifier.settings import load

if TYPE_CHECKING:
    from notifier.ledger.database import Database

#: Seconds for a change: the processes here and the other machines have 5 each, and those that do not answer a block
#: are restarted.
PATIENCE = 60.0

app = typer.Typer(add_completion=False)

Merchant = Annotated[str, typer.Argument(metavar="MERCHANT", help="The merchant's id.")]
Url = Annotated[str | None, typer.Option(metavar="URL", help="Where to post; `none`: only what names its own url.")]
LadderOption = Annotated[
    str | None, typer.Option("--ladder", metavar="LADDER", help="1s,3s,5s or a ladder's name; `default`.")
]
Ack = Annotated[str | None, typer.Option(metavar="RULE", help="http, body=success or json:code=SUCCESS; `default`.")]
Concurrency = Annotated[str | None, typer.Option(metavar="N", help="Calls at once per tier; `default`: the service's.")]
Rate = Annotated[str | None, typer.Option(metavar="N", help="Calls a second per tier; `default`: the service's.")]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="'NAME: VALUE'", help="Sent with every callback; `NAME:` takes it away. Repeat."),
]
SecretOption = Annotated[
    str | None,
    typer.Option("--secret", metavar="whsec_…|@FILE|-", help="Its signing secret; default: a fresh one is made."),
]


@app.callback()
def group() -> None:
    """The registry: merchants, their urls, secrets and ladders, and whether they may be called.

    `list` and `show` read the database, also while the service is down. What changes something goes through the agent
    of the running service, which tells all processes of all machines before it answers; a machine that does not answer
    is named, and takes the change over by itself within 10 s. A notification of an unknown merchant is delivered to
    the url it names, with the service's secret, and held if it names none.

    Exit code: 0 only if the change is in force in every process of every machine; it is made in any case.
    """


@app.command(short_help="register one; prints its signing secret")
def add(
    merchant: Merchant,
    url: Url = None,
    ladder: LadderOption = None,
    ack: Ack = None,
    concurrency: Concurrency = None,
    rate: Rate = None,
    header: Headers = None,
    secret: SecretOption = None,
    as_json: AsJson = False,
) -> None:
    """Register a merchant and print its signing secret, which is never shown again.

    Examples:
      notifier merchants add shop-7 --url https://shop-7.example/hooks
      notifier merchants add shop-8 --url https://shop-8.example/n --ladder wechat --ack json:code=SUCCESS
    """
    check_merchant(merchant)
    fields = stated(url, ladder, ack, concurrency, rate, header, secret)
    _change("add", merchant, f"{merchant} is registered", as_json, fields=fields)


@app.command("list", short_help="all of them, or some")
def list_(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Only those with it in id or url.")] = None,
    standing: Annotated[
        str | None, typer.Option(metavar="STANDING", help="Only enabled, disabled or blocked ones.")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only those after this one, to page on.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List merchants in the order of their ids.

    Examples:
      notifier merchants list --standing disabled
      notifier merchants list example.com --json | jq -r '.items[].id'
    """
    page = reading(lambda database: _page(database, text, standing, after, limit))
    if as_json:
        print_json(page)
    else:
        merchants_view.print_list(page)


@app.command(short_help="one merchant whole")
def show(merchant: Merchant, as_json: AsJson = False) -> None:
    """Show one merchant. Secrets are never shown, and of further headers only the names.

    Examples:
      notifier merchants show shop-7
    """
    check_known_merchant(merchant)
    settings = load()
    found = reading(lambda database: _one(database, merchant), settings)
    from notifier.registry import form  # here: only this needs it

    found |= {"effective": form.effective(found, settings.isolation)}
    if as_json:
        print_json(found)
    else:
        merchants_view.print_whole(found)


@app.command("set", short_help="change its url, ladder, limits …")
def set_(
    merchant: Merchant,
    url: Url = None,
    ladder: LadderOption = None,
    ack: Ack = None,
    concurrency: Concurrency = None,
    rate: Rate = None,
    header: Headers = None,
    as_json: AsJson = False,
) -> None:
    """Change what is said about a merchant; what is not named stays as it is.

    What waits already is delivered to the new url, by the new rule; its ladder stays.

    Examples:
      notifier merchants set shop-7 --url https://shop-7.example/v2
      notifier merchants set shop-7 --ladder default --header 'X-Shop: 7' --header 'X-Old:'
    """
    fields = stated(url, ladder, ack, concurrency, rate, header, None)
    if not fields:
        raise typer.BadParameter("say what to change: --url, --ladder, --ack, --concurrency, --rate or --header")
    _change("set", merchant, f"{merchant} is changed", as_json, fields=fields)


@app.command(short_help="take it out of the registry")
def remove(
    merchant: Merchant,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask. Needed where there is no terminal to ask on.")
    ] = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Take a merchant out of the registry, secrets included. Its notifications stay in the ledger.

    What still waits for it and names no url of its own is held. To stop calling it and keep it, see `disable`.

    Examples:
      notifier merchants remove shop-7 --yes
    """
    check_known_merchant(merchant)
    if not yes:
        _ask(f"Remove {merchant} and its signing secrets?")
    _change("remove", merchant, f"{merchant} is removed", as_json, why=reason)


@app.command(short_help="give it a new signing secret")
def rotate(
    merchant: Merchant,
    grace: Annotated[
        str | None, typer.Option(metavar="SPAN", help="So long the old one signs, too. Default: 1d; `0s`: not at all.")
    ] = None,
    secret: SecretOption = None,
    as_json: AsJson = False,
) -> None:
    """Give a merchant a new signing secret, and print it; it is never shown again.

    During the grace every webhook carries both signatures, so the merchant can change over at any moment of it.

    Examples:
      notifier merchants rotate shop-7 --grace 7d
    """
    fields = stated(None, None, None, None, None, None, secret)
    seconds = None if grace is None else 0.0 if grace == "0s" else span(grace, "--grace")
    _change("rotate", merchant, f"{merchant} has a new secret", as_json, fields=fields, seconds=seconds)


@app.command(short_help="call it again")
def enable(merchant: Merchant, as_json: AsJson = False) -> None:
    """Call a disabled merchant again; what was held for it is released.

    Examples:
      notifier merchants enable shop-7
    """
    _change("enable", merchant, f"{merchant} is enabled", as_json)


@app.command(short_help="call it no more, until enabled")
def disable(merchant: Merchant, reason: Reason = None, as_json: AsJson = False) -> None:
    """Call a merchant no more: what comes due is held, with its payload, until `enable`.

    The answer 410 Gone from a merchant's registered url does the same by itself.

    Examples:
      notifier merchants disable shop-7 --reason "the contract has ended"
    """
    _change("disable", merchant, f"{merchant} is disabled", as_json, why=reason)


@app.command(short_help="call it no more, for a while")
def block(merchant: Merchant, for_: For = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """Call a merchant no more for a while, on all machines: what comes due is held, with its payload.

    Once this has said that it is live everywhere, no call to the merchant starts any more. `notifier ctl block` does
    the same, and helps itself where there is no agent or no database.

    Examples:
      notifier merchants block shop-7 --for 2h --reason "charged twice, see INC-118"
    """
    seconds = None if for_ is None else span(for_, "--for")
    _change("block", merchant, f"{merchant} is blocked", as_json, why=reason, seconds=seconds)


@app.command(short_help="take a block back")
def unblock(merchant: Merchant, reason: Reason = None, as_json: AsJson = False) -> None:
    """Take a block back; what was held for the merchant is released.

    Examples:
      notifier merchants unblock shop-7
    """
    _change("unblock", merchant, f"{merchant} is no longer blocked", as_json, why=reason)


@app.command("test", short_help="send it a test notification")
def try_(merchant: Merchant, as_json: AsJson = False) -> None:
    """Send a test notification to a merchant's registered url; prints its id.

    It is an ordinary one, with its ladder and its rows in the ledger; its payload says {"type": "test", …}.

    Examples:
      notifier notifications show $(notifier merchants test shop-7)
    """
    check_known_merchant(merchant)
    sent = ask_agent("merchants.test", {"merchant": merchant, "who": who()})
    if as_json:
        print_json(sent)
    else:
        typer.echo(sent["id"])


def _change(
    op: str,
    merchant: str,
    said: str,
    as_json: bool,
    *,
    fields: Mapping[str, Any] | None = None,
    why: str | None = None,
    seconds: float | None = None,
) -> None:
    check_known_merchant(merchant)
    asked = {"op": op, "merchant": merchant, "fields": dict(fields or {}), "who": who(), "why": why, "for": seconds}
    done = ask_agent("merchants.change", asked, PATIENCE)
    account = live.account(done["live"])
    if as_json:
        print_json({"ok": account.ok, **done})
    else:
        typer.echo(f"{said}: {account.said}")
        if done.get("secret"):
            typer.echo(f"its secret, shown only now: {done['secret']}")
        for sentence in account.missing:
            complain(sentence)
    if not account.ok:
        raise typer.Exit(1)


async def _page(
    database: Database, text: str | None, standing: str | None, after: str | None, limit: int
) -> dict[str, Any]:
    from notifier.domain.merchant import Standing
    from notifier.ledger import merchants as registry

    if standing is not None and standing not in list(Standing):
        raise typer.BadParameter(f"{standing!r:.40} is none of {', '.join(Standing)}", param_hint="--standing")
    now_ms = int(time.time() * 1000)
    rows = await registry.page(
        database,
        after=after or "",
        limit=limit + 1,
        standing=None if standing is None else Standing(standing),
        text=text,
        now_ms=now_ms,
    )
    items = [_shown(row, now_ms) for row in rows[:limit]]
    return {"items": items, "next": items[-1]["id"] if len(rows) > limit else None}


async def _one(database: Database, merchant: str) -> dict[str, Any]:
    from notifier.ledger import merchants as registry

    row = await registry.get(database, merchant)
    if row is None or row.body is None:
        raise NotFound(f"there is no merchant {merchant!r} in the registry; `notifier merchants list` shows those")
    return _shown(row, int(time.time() * 1000))


def _shown(row: Any, now_ms: int) -> dict[str, Any]:
    from notifier.registry import form

    return form.shown(form.read(row.id, row.body, row.version, row.changed_at), now_ms)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("that cannot be taken back: add --yes to mean it")
    if not typer.confirm(question, err=True):
        complain("nothing was changed")
        raise typer.Exit(1)
