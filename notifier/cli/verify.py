"""`notifier verify`: is a webhook's signature right, and if not, why."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from notifier.cli.options import AsJson
from notifier.cli.secret import SigningSecrets, secrets_of
from notifier.domain import signature as signatures
from notifier.domain.signature import Secret
from notifier.errors import InvalidInput, InvalidSignature


def verify(
    webhook_id: Annotated[str, typer.Option("--id", help="The header webhook-id.")],
    timestamp: Annotated[str, typer.Option(help="The header webhook-timestamp: Unix seconds.")],
    signature: Annotated[str, typer.Option(help="The header webhook-signature: v1,…, several with blanks between.")],
    body: Annotated[str, typer.Option(metavar="TEXT|@FILE|-", help="The body, byte for byte as it was received.")],
    secret: SigningSecrets = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Seconds by which the timestamp may differ from now.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Check the signature of a webhook that was received, as Standard Webhooks 1.0 has it.

    Prints `valid`, or what is wrong: the secret, the body, or the clock. A timestamp that is too old is refused even if
    the signature is right, because somebody may be sending an old webhook again; --tolerance allows for more.

    Exit code: 0 valid, 1 not valid, 2 usage.

    Examples:
      notifier verify --secret whsec_… --id ntf_… --timestamp 1795251600 --signature v1,… --body '{"order":42}'
      notifier verify --id ntf_… --timestamp 1795251600 --signature v1,… --body @body.json --tolerance 86400
    """
    secrets = secrets_of(secret)
    if not secrets:
        raise typer.BadParameter("give the secret that signs, or set NOTIFIER_SIGNING_SECRET", param_hint="--secret")
    problem = _problem(secrets, webhook_id, timestamp, signature, _bytes(body), tolerance)
    if as_json:
        typer.echo(json.dumps({"valid": problem is None, "problem": problem}))
        raise typer.Exit(0 if problem is None else 1)
    if problem is not None:
        raise InvalidSignature(f"not valid: {problem}")
    typer.echo("valid")


def _problem(
    secrets: Sequence[Secret], webhook_id: str, timestamp: str, signature: str, body: bytes, tolerance: float
) -> str | None:
    now = time.time()

    def fault(body: bytes, tolerance: float) -> str | None:
        try:
            signatures.verify(secrets, webhook_id, timestamp, signature, body, now=now, tolerance=tolerance)
        except InvalidSignature as error:
            return str(error)
        return None

    found = fault(body, tolerance)
    if found is None:
        return None
    apart_from_time = fault(body, math.inf)
    if apart_from_time is None:
        return f"{found}. The signature itself is right"
    bare = body.rstrip(b"\r\n")
    if bare != body and fault(bare, math.inf) is None:
        return "the body given here ends in a line break that the signed one does not have; without it, it matches"
    return apart_from_time


def _bytes(stated: str) -> bytes:
    """The bytes of --body. Raises InvalidInput when the file cannot be read."""
    if stated == "-":
        return sys.stdin.buffer.read()
    if not stated.startswith("@"):
        return os.fsencode(stated)  # exactly the bytes that were typed
    path = Path(stated.removeprefix("@"))
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
