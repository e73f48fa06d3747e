"""Commands that are imported only when they are called, and how their help looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from notifier.importing import for_good

#: Columns that help texts use at most, on a wider terminal too: longer lines are hard to read.
WIDEST = 110

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": WIDEST}


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the table. target: `module:function`, or `module:app` for a group. short: one line of help."""

    section: str
    name: str
    target: str
    short: str


class _LightHelp:
    """Its own `--help` has a value that is a bool from the start: typer would import pydantic to make None one, which
    costs every command 50 ms.
    """

    def get_help_option(self, ctx: Any) -> Any:
        """The option, or None if there is none."""
        option = super().get_help_option(ctx)  # type: ignore[misc]  # a mix-in before typer's classes
        if option is not None:
            option.default = False
        return option


class Command(_LightHelp, TyperCommand):
    """A command whose docstring ends in examples: what follows the line `Examples:` is printed as it stands."""

    def __init__(self, name: str | None, *, help: str | None = None, **rest: Any) -> None:  # noqa: A002  typer's name
        prose, self.examples = _split(help)
        super().__init__(name, help=prose, **_plain(rest))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Print the examples."""
        _write_examples(self.examples, formatter)


class Group(_LightHelp, TyperGroup):
    """A group of commands; called without one it prints its help, as the usage error that it is."""

    def __init__(self, *, help: str | None = None, **rest: Any) -> None:  # noqa: A002  typer's name
        prose, self.examples = _split(help)
        super().__init__(help=prose, **_plain(rest))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the group's own options off; print the help if nothing at all was given."""
        if not args:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Print the examples."""
        _write_examples(self.examples, formatter)


class CommandLine(Group):
    """The whole command line, from a table. first: command lines to try before any other, each with a remark."""

    def __init__(self, about: str, first: Sequence[tuple[str, str]], table: Sequence[Entry], version: str) -> None:
        self._first = first
        self._table = table
        super().__init__(name="notifier", help=about, commands=_Imported(table), params=[_version_option(version)])

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the table."""
        return [entry.name for entry in self._table]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print what this is, what to try first, then the commands."""
        formatter.write_text(self.help)
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        _write_section("Try first", self._first, formatter)
        widest = max(len(entry.name) for entry in self._table)
        for section, entries in groupby(self._table, key=lambda entry: entry.section):
            _write_section(section, [(entry.name.ljust(widest), entry.short) for entry in entries], formatter)
        options = [row for option in self.get_params(ctx) if (row := option.get_help_record(ctx))]
        _write_section("Options", options, formatter)
        formatter.write("\nEvery command explains itself, with examples: notifier COMMAND --help\n")


class _Imported(Mapping[str, Any]):
    """The commands by name; looking one up imports its module."""

    def __init__(self, table: Sequence[Entry]) -> None:
        self._entries = {entry.name: entry for entry in table}

    def __getitem__(self, name: str) -> Any:
        entry = self._entries[name]
        module, _, attribute = entry.target.partition(":")
        with for_good():
            found = getattr(import_module(module), attribute)
        return _as_group(found, entry) if isinstance(found, typer.Typer) else _as_command(found, entry.name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _as_command(function: Any, name: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name, cls=Command)(function)
    return get_command(app)


def _as_group(app: typer.Typer, entry: Entry) -> Any:
    app.info.name = entry.name
    app.info.cls = Group
    for command in app.registered_commands:
        command.cls = Command
    group = get_group(app)
    group.help = group.help or entry.short
    return group


def _version_option(version: str) -> Any:
    def show(wanted: bool) -> None:
        if wanted:
            typer.echo(f"notifier {version}")
            raise typer.Exit

    def options(
        version: bool = typer.Option(
            False, "--version", callback=show, is_eager=True, help="Show the version and exit."
        ),
    ) -> None:
        """Typer makes options from a function's parameters; this one has no other use."""

    return _as_command(options, "notifier").params[0]


def _plain(rest: dict[str, Any]) -> dict[str, Any]:
    """Plain help for all: it reads the same in a terminal, a pipe and a file, and spares the import of rich."""
    return {**rest, "rich_markup_mode": None, "context_settings": {**_CONTEXT, **(rest.get("context_settings") or {})}}


def _split(docstring: str | None) -> tuple[str | None, str]:
    prose, _, examples = (docstring or "").partition("\nExamples:\n")
    return prose.strip() or None, examples.rstrip()


def _write_section(title: str, rows: Sequence[tuple[str, str]], formatter: Any) -> None:
    with formatter.section(title):
        formatter.write_dl(rows)


def _write_examples(examples: str, formatter: Any) -> None:
    if examples:
        formatter.write_paragraph()
        formatter.write(f"Examples:\n{examples}\n")
