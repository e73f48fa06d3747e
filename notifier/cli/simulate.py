"""`notifier simulate`: a merchant that answers as scripted, and shows what arrives."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from notifier.cli.options import AsJson
from notifier.cli.secret import SigningSecrets, secrets_of
from notifier.errors import InvalidInput, NotifierError
from notifier.simulator import Received, Script, SignatureState, Simulator


def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 9000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    script: Annotated[
        str, typer.Option(help="Answers, one per attempt of a notification; the last one repeats.")
    ] = "ok",
    merchant: Annotated[
        list[str] | None,
        typer.Option(metavar="/PATH=SCRIPT", help="Another script for this path; may be repeated."),
    ] = None,
    secret: SigningSecrets = None,
    log: Annotated[Path | None, typer.Option(help="Also append one line of JSON per request to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """A merchant to try things out with: answers as scripted and prints a line for each request, until Ctrl-C.

    Answers: ok (200, "success"), ok-json (200, {"code": "SUCCESS"}), wrong-body (200, "fail"), slow (ok after 2 s;
    slow:7 after 7), timeout (never), reset (the connection breaks), redirect (302), huge (200 and 64 MiB), and any
    status from 100 to 599. 429 and 503 carry Retry-After: 429:30 asks for 30 s.

    With a secret, signatures are checked; a wrong one is answered with 401 and uses up no answer of the script.

    Examples:
      notifier simulate
      notifier simulate --script 500,timeout,ok
      notifier simulate --merchant /dead=500 --merchant /busy=429:5,ok --secret whsec_…
      notifier simulate --json --log received.jsonl
    """
    default, scripts = _script(script, "--script"), _scripts(merchant or [])
    secrets = secrets_of(secret)
    simulating = _Simulating(as_json)
    simulator = Simulator(
        scripts, default, secrets=secrets, log=log, host=host, port=port, keep=False, told=simulating.tell
    )
    asyncio.run(simulating.run(simulator, _introduction(default, scripts, checked=bool(secrets)), log))


class _Simulating:
    """One run of a simulator: until a signal, or until the reader of stdout left."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._over = asyncio.Event()
        self._reader_left = False

    async def run(self, simulator: Simulator, introduction: Sequence[str], log: Path | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._over.set)
        try:
            await simulator.start()
        except OSError as error:
            raise NotifierError(_why_not(error, simulator, log)) from None
        try:
            for line in introduction:
                typer.echo(line.replace("{url}", simulator.url), err=True)
            await self._over.wait()
        finally:
            await simulator.close()
        if self._reader_left:
            raise BrokenPipeError

    def tell(self, received: Received) -> None:
        """Print one request. A reader that left ends the run: the request itself is still answered."""
        try:
            typer.echo(received.line() if self._as_json else shown(received))
        except BrokenPipeError:
            self._reader_left = True
            self._over.set()


def shown(received: Received) -> str:
    """A request as one line for people."""
    attempt = "-" if received.attempt is None else str(received.attempt)
    named = str(received.status) in received.answer or received.status is None
    answer = received.answer if named else f"{received.answer} ({received.status})"
    signature = {
        SignatureState.VALID: "signature valid",
        SignatureState.INVALID: f"signature invalid: {received.fault}",
        SignatureState.UNCHECKED: "signature unchecked",
    }[received.signature]
    line = (
        f"{received.moment}  {received.path:<12}  {received.webhook_id or '-':<36}  "
        f"attempt {attempt:>2}  {answer:<14}  {signature}"
    )
    # What strangers send must not drive the terminal.
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)


def _introduction(default: Script, scripts: dict[str, Script], *, checked: bool) -> list[str]:
    path = next(iter(scripts), "/shop")
    enqueue = ["notifier", "enqueue", "--merchant", "shop", "--url", "{url}" + path, "--payload", '{"order": 42}']
    return [
        "listening on {url}",
        *(f"  {path} answers {script}" for path, script in scripts.items()),
        f"  {'any other path' if scripts else 'any path'} answers {default}",
        "  signatures are checked" if checked else "  signatures are not checked: --secret does that",
        "to try it, start `notifier run` with NOTIFIER_EGRESS__ALLOW=127.0.0.0/8 and then:",
        "  " + " ".join(part if part.startswith("{url}") else shlex.quote(part) for part in enqueue),
    ]


def _scripts(stated: Sequence[str]) -> dict[str, Script]:
    scripts: dict[str, Script] = {}
    for text in stated:
        path, equals, script = text.rpartition("=")
        if not equals or not path.startswith("/"):
            raise typer.BadParameter(
                f"{text!r} is not a path and its script, such as /shop=500,ok", param_hint="--merchant"
            )
        if path in scripts:
            raise typer.BadParameter(f"{path} has two scripts", param_hint="--merchant")
        scripts[path] = _script(script, "--merchant")
    return scripts


def _script(text: str, option: str) -> Script:
    try:
        return Script.parse(text)
    except InvalidInput as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _why_not(error: OSError, simulator: Simulator, log: Path | None) -> str:
    if log is not None and error.filename is not None:
        return f"{log} cannot be written: {error.strerror}"
    # asyncio wraps the system's words into its own; a failed lookup has a negative number and only its own words.
    reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror
    return f"cannot listen on {simulator.url.removeprefix('http://')}: {reason}; choose another --port or --host"
