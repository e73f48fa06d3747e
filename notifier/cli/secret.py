"""The option for signing secrets on the merchants' side: simulate and verify."""

from __future__ import annotations

from typing import Annotated

import typer

from notifier.domain.signature import Secret
from notifier.errors import InvalidSecret

SigningSecrets = Annotated[
    str | None,
    typer.Option(
        "--secret",
        envvar="NOTIFIER_SIGNING_SECRET",
        metavar="WHSEC",
        help="The signing secret, whsec_…; several with commas between.",
    ),
]


def secrets_of(stated: str | None) -> tuple[Secret, ...]:
    """The secrets that were given, none or more. What is none is a usage error that does not repeat it."""
    try:
        return tuple(Secret.parse(part) for part in (stated or "").split(",") if part.strip())
    except InvalidSecret as error:
        raise typer.BadParameter(str(error), param_hint="--secret") from None
