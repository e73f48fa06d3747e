"""The `notifier` command.

How to add a command, for whoever writes one:

1. Write a plain function of the command's name in a file of its own, with typer's annotations
   (`merchant: Annotated[str, typer.Option(help="…")]`), and name it in `COMMANDS` below. The file is imported only
   when its command is called or asked for help, so it may import what it needs at its top.
2. A group of commands is a `typer.Typer()` called `app` in its file, named in `COMMANDS` as `module:app`.
3. The docstring is the help text. After a line `Examples:` it is printed as it stands.
4. A flag is `typer.Option("--json")`; without its name spelled out typer adds a `--no-json`. `AsJson` in `options` is
   that one.
5. Raise NotifierError (or let it pass): it becomes one line on stderr and its exit code. `typer.BadParameter` is for
   what contradicts another option. `typer.Exit(1)` ends without a word more. Never catch KeyboardInterrupt for tidying
   up (use `finally`), nor BrokenPipeError, unless the command has to go on without its reader.
6. `table.print_table` prints tables for people.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO

import typer

from notifier import __version__
from notifier.cli.lazy import CommandLine, Entry
from notifier.errors import NotifierError

ABOUT = """\
notifier tells merchants' servers what happened, again and again on a ladder of growing delays, until they acknowledge.
RabbitMQ holds what waits; signed webhooks are the callback.
"""

FIRST = (
    ("notifier dev", "see it work, live: a private RabbitMQ, sample merchants"),
    ("notifier doctor", "what `notifier run` still needs here, and how to get it"),
)

COMMANDS = (
    Entry("Service", "run", "notifier.cli.run:run", "the service: one process per tier, until it is told to stop"),
    Entry("Service", "enqueue", "notifier.cli.enqueue:enqueue", "hand over one notification, or a file of them"),
    Entry("Service", "dev", "notifier.cli.dev:dev", "everything at once on this machine, with sample merchants"),
    Entry("Service", "ctl", "notifier.cli.ctl:app", "look at a running service and steer it"),
    Entry("Registry", "merchants", "notifier.cli.merchants:app", "who is told, where and how; block, disable, rotate"),
    Entry("Registry", "tokens", "notifier.cli.tokens:app", "who may use the HTTP API"),
    Entry("Ledger", "notifications", "notifier.cli.notifications:app", "what became of each; send again, give up"),
    Entry("Ledger", "migrate", "notifier.cli.migrate:migrate", "bring the database up to this version"),
    Entry("Look", "doctor", "notifier.cli.doctor:doctor", "check broker, settings and clock, and say what to do"),
    Entry("Look", "ladder", "notifier.cli.ladder:ladder", "the timetable of a ladder: which attempt comes when"),
    Entry("Look", "config", "notifier.cli.config:config", "the effective settings, and where each came from"),
    Entry("Look", "topology", "notifier.cli.topology:app", "queues and exchanges on the broker"),
    Entry("Look", "poison", "notifier.cli.poison:app", "messages that could not be worked: list, requeue, discard"),
    Entry("Merchants' side", "simulate", "notifier.cli.simulate:simulate", "a merchant that answers as scripted"),
    Entry("Merchants' side", "verify", "notifier.cli.verify:verify", "check a webhook's signature"),
)


def main() -> None:
    """The entry point: run the command line, exit with its code (0 done, 1 failed, 2 usage, 78 configuration)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not so where a file descriptor was closed before the start
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    _occupy_standard_descriptors()
    code = execute(sys.argv[1:])
    if sys.stderr is not None:
        _let_go(sys.stderr)
    sys.exit(code)


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. What went wrong is told on stderr."""
    try:
        code = _call(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that left can still be told from a failure
    except BrokenPipeError:
        if not _reader_left():
            raise  # some other pipe or socket broke: that is a fault, not an early end of `| head`
        return 1
    return code


def _call(arguments: Sequence[str]) -> int:
    try:
        with CommandLine(ABOUT, FIRST, COMMANDS, __version__).make_context("notifier", list(arguments)) as context:
            context.command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except NotifierError as error:
        _say(str(error))
        return error.exit_code
    except typer.TyperException as error:
        _explain_usage(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return 0


def _say(message: str) -> None:
    for line in message.splitlines():
        typer.echo(f"notifier: {line}", err=True)


def _explain_usage(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "notifier"
    typer.echo(f"{command}: {error.format_message()}\nTry '{command} --help'.", err=True)


def _occupy_standard_descriptors() -> None:
    """Where one was closed before the start, the next socket would take its number, and libuv aborts when it closes
    that. The streams stay None, so nothing is written there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _let_go(stream: TextIO) -> None:
    """What is left in a stream whose reader is gone would make the interpreter exit with 120 instead of our code."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _reader_left() -> bool:
    """Whether stdout's reader is gone. Then nothing more is written there, not even by the interpreter's last flush."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # POLLERR is reported without being asked for
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
