"""`notifier run`: the service."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from notifier import settings as configuration
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.errors import AlreadyRunning, BadRuntimeDirectory, NoBroker
from notifier.processes.service import Cast, run_service
from notifier.settings import Settings


def run(
    tier: Annotated[
        list[str] | None,
        typer.Option(
            "--tier", metavar="TIER", help="Run this tier only; may be repeated. Default: all configured ones."
        ),
    ] = None,
    no_api: Annotated[bool, typer.Option("--no-api", help="Without the HTTP API and the dashboard.")] = False,
    no_agent: Annotated[
        bool,
        typer.Option("--no-agent", help="Without the ledger and the registry: facts wait in RabbitMQ for an agent."),
    ] = False,
) -> None:
    """The service: one process per tier, which delivers what comes due until it is told to stop; the agent, which keeps
    the ledger and the merchants; and the HTTP API with the dashboard.

    Prints `ready` when every process is ready, then the dashboard's address. SIGTERM and Ctrl-C finish what runs, up to
    the drain timeout, and exit with 0; a second one leaves at once. What is unfinished then stays with RabbitMQ and is
    delivered again.

    Examples:
      notifier run
      notifier run --tier 1s --tier 3s     # the other tiers run elsewhere
      notifier run --no-api                # no HTTP on this machine
    """
    settings = configuration.load()
    _need_broker(settings)
    _need_secret(settings)
    chosen = [Tier.parse(text) for text in tier] if tier else None
    try:
        code = run_service(settings, Cast(chosen, agent=not no_agent, api=not no_api))
    except (AlreadyRunning, BadRuntimeDirectory) as error:
        raise type(error)(f"{error} (setting runtime_dir, NOTIFIER_RUNTIME_DIR)") from None
    if code:
        raise typer.Exit(code)


def _need_broker(settings: Settings) -> None:
    if settings.amqp_url is None:
        raise NoBroker.named()


def _need_secret(settings: Settings) -> None:
    """The webhook signs; a callback of the user's own need not."""
    if settings.secrets or settings.callback is not None:
        return
    fresh = Secret(secrets.token_bytes(32)).text
    typer.echo(
        "notifier: NOTIFIER_SIGNING_SECRET is not set, and webhooks are never sent unsigned. A fresh secret to use:\n"
        f"export NOTIFIER_SIGNING_SECRET={fresh}\n"
        "notifier: Keep it: merchants verify with it. Set it wherever `notifier run` is started.",
        err=True,
    )
    raise typer.Exit(78)
