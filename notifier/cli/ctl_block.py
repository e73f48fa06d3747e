"""`notifier ctl block` and `unblock`: in the registry, for all machines; without it on this machine all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from notifier.cli import live
from notifier.cli.agent_line import AGENT, NoAgent, asked, who
from notifier.cli.ctl_fleet import Outcome, conclude, on_all
from notifier.cli.ctl_line import PROMPT, Asking, complain, entries, print_json, talk
from notifier.cli.ctl_options import ALL, For, Reason, span
from notifier.cli.ctl_state import Change, pushed, until
from notifier.cli.options import AsJson
from notifier.domain.notification import check_known_merchant
from notifier.errors import DatabaseUnavailable, NotFound, NotifierError

Merchant = Annotated[str, typer.Argument(metavar="MERCHANT")]

#: Seconds for the agent: the processes here and the other machines have 5 each. A block must not wait longer.
PATIENCE = 20.0


def block(
    context: typer.Context, merchant: Merchant, for_: For = None, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Call a merchant no more: its notifications are held, with their payload, instead of delivered.

    Holds in the registry, so on all machines, until `unblock` or the end of --for. Once this has said `live in 5 of 5
    processes`, no call to the merchant starts any more. A process that does not answer is restarted.

    Without an agent or a database it holds on this machine alone, which is said; with `ctl --fleet block` on each.

    Examples:
      notifier ctl block shop-7 --reason "charged twice, see INC-118"
    """
    check_known_merchant(merchant)
    seconds = None if for_ is None else span(for_, "--for")
    change: dict[str, Any] = {
        "op": "block",
        "merchant": merchant,
        "fields": {},
        "who": who(),
        "why": reason,
        "for": seconds,
    }
    try:
        done = talk(lambda operator: asked(operator, "merchants.change", change, PATIENCE))
    except (NoAgent, DatabaseUnavailable) as error:
        _block_here(context, merchant, seconds, reason, as_json, error)
    else:
        _conclude(f"{merchant} is blocked{until(seconds)}", done, as_json)


def unblock(context: typer.Context, merchant: Merchant, reason: Reason = None, as_json: AsJson = False) -> None:
    """Take a block back, in the registry and on this machine; what was held for the merchant is released.

    Examples:
      notifier ctl unblock shop-7
    """
    check_known_merchant(merchant)
    registered = talk(lambda operator: _unblock_registered(operator, merchant, reason))
    if on_all(context) and registered is not None:  # once, since it is the same registry for all
        complain("; ".join([registered.said, *registered.missing]))
        registered = None
    conclude(context, lambda operator: _unblock(operator, merchant, reason, registered), as_json)


def _block_here(
    context: typer.Context,
    merchant: str,
    seconds: float | None,
    reason: str | None,
    as_json: bool,
    error: NotifierError,
) -> None:
    complain(f"{error}; so {merchant} is blocked on this machine alone, not in the registry")
    value = {"blocked": True} if reason is None else {"blocked": True, "reason": reason}  # held with it, in the ledger
    change = Change(f"block/{merchant}", value, ALL, critical=True)
    said = f"{merchant} is blocked on this machine"
    conclude(context, lambda operator: pushed(operator, [change], said, seconds, reason), as_json)


def _conclude(said: str, done: Mapping[str, Any], as_json: bool) -> None:
    account = live.account(done["live"])
    if as_json:
        print_json({"ok": account.ok, "changes": [], "registry": done})
    else:
        typer.echo(f"{said}: {account.said}")
        for sentence in account.missing:
            complain(sentence)
    if not account.ok:
        raise typer.Exit(1)


async def _unblock(operator: Asking, merchant: str, reason: str | None, registered: Outcome | None) -> Outcome:
    """Take the override of a machine back, if there is one. registered: what came of it in the registry."""
    key = f"block/{merchant}"
    if not any(entry["key"] == key for entry in await entries(operator)):
        return registered or Outcome(f"{merchant} was not blocked on this machine", [], {"changes": []}, ok=True)
    here = await pushed(operator, [Change(key, None, ALL)], f"{merchant} is no longer blocked", None, reason)
    if registered is None:
        return here
    return Outcome(
        f"{registered.said}; its block on this machine is taken back, too: {here.said.rpartition(': ')[2]}",
        [*registered.missing, *here.missing],
        {**registered.shown, **here.shown},
        registered.ok and here.ok,
        here.warnings,
    )


async def _unblock_registered(operator: Asking, merchant: str, reason: str | None) -> Outcome | None:
    """None: there is no registry here that could block it, or it does not know the merchant."""
    slots = (await operator.ask("status", timeout=PROMPT))["slots"]
    if all(slot["slot"] != AGENT for slot in slots):
        return None
    change: dict[str, Any] = {
        "op": "unblock",
        "merchant": merchant,
        "fields": {},
        "who": who(),
        "why": reason,
        "for": None,
    }
    try:
        done = await asked(operator, "merchants.change", change, PATIENCE)
    except NotFound:
        return None
    except (NoAgent, DatabaseUnavailable) as error:
        sentence = f"the registry could not be asked, and may block it: {error}"
        return Outcome(f"{merchant} may be blocked still", [sentence], {"changes": []}, ok=False)
    account = live.account(done["live"])
    said = f"{merchant} is no longer blocked: {account.said}"
    return Outcome(said, account.missing, {"changes": [], "registry": done}, account.ok)
