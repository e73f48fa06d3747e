"""The command line itself: finding commands, importing them late, and one way to tell what went wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Annotated

import pytest
import typer

import notifier
from notifier import cli
from notifier.cli.lazy import Entry
from notifier.cli.options import AsJson
from notifier.errors import ConfigurationError, InvalidInput, NotifierError

Call = Callable[..., int]


def imported_by(*arguments: str) -> set[str]:
    """Which modules a fresh interpreter has imported after running the command line."""
    program = (
        "import sys, notifier.cli\n"
        "code = notifier.cli.execute(sys.argv[1:]) if sys.argv[1:] else 0\n"
        "print(code, *sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    code, *modules = done.stderr.splitlines()
    assert code == "0"
    return set(modules)


DATABASE = {"sqlalchemy", "alembic", "aiosqlite", "asyncpg"}
HEAVY = {"aio_pika", "aiormq", "aiohttp", "rich", "uvloop", "pydantic", "asyncio", "notifier.settings", *DATABASE}


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--version",)], ids=["import", "help", "version"])
def test_the_command_line_alone_imports_nothing_heavy_and_no_command(arguments: tuple[str, ...]) -> None:
    modules = imported_by(*arguments)
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("notifier.cli.")} <= {
        "notifier.cli.lazy",
        "notifier.cli.options",
    }


@pytest.mark.parametrize("arguments", [("ladder",), ("config", "--json")], ids=["ladder", "config"])
def test_a_pure_command_imports_no_client_of_anything(arguments: tuple[str, ...]) -> None:
    assert not imported_by(*arguments) & {"aio_pika", "aiormq", "aiohttp", "uvloop", "rich", "asyncio"}


@pytest.mark.parametrize("name", ["merchants", "notifications", "tokens", "migrate", "enqueue", "ctl", "doctor"])
def test_explaining_a_command_needs_no_database(name: str) -> None:
    assert not imported_by(name, "--help") & DATABASE


# A command line of a few commands that a test can look into


def sample(
    which: Annotated[str, typer.Argument(help="What to do.")] = "",
    number: Annotated[int, typer.Option(help="How many.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Do what is asked, in a sentence that is long enough to be broken into two lines of help, and say nothing.

    The second paragraph.

    Examples:
      notifier sample quietly \\
          --number 2
      notifier sample --json
    """
    match which:
        case "input":
            raise InvalidInput("line 3: that is no ladder")
        case "settings":
            raise ConfigurationError("one thing is wrong\nanother thing too")
        case "plain":
            raise NotifierError("it did not work")
        case "interrupted":
            raise KeyboardInterrupt
        case "usage":
            raise typer.BadParameter("not together with --json", param_hint="--number")
        case "seven":
            raise typer.Exit(7)
        case "bug":
            raise ZeroDivisionError
        case "socket":
            raise BrokenPipeError("a socket, not stdout")
        case _:
            typer.echo(f"{which} {number} {as_json}")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    app = typer.Typer(help="Several of them.")

    @app.command()
    def show(name: str) -> None:
        """Show one.

        Examples:
          notifier samples show x
        """
        typer.echo(f"shown {name}")

    @app.command("list")
    def list_all() -> None:
        """List all."""
        typer.echo("all")

    single = typer.Typer()
    single.command()(lambda: typer.echo("only one"))
    single.registered_commands[0].name = "show"

    module = ModuleType("samples_of_commands")
    module.sample, module.app, module.single = sample, app, single  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = (
        Entry("First", "sample", "samples_of_commands:sample", "one command"),
        Entry("First", "absent", "no_such_module_anywhere:absent", "its file does not exist"),
        Entry("Second", "samples", "samples_of_commands:app", "a group"),
        Entry("Second", "single", "samples_of_commands:single", "a group of one"),
    )
    monkeypatch.setattr(cli, "COMMANDS", table)
    return lambda *arguments: cli.execute(arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("sample", "input"), 1, "notifier: line 3: that is no ladder\n"),
        (("sample", "plain"), 1, "notifier: it did not work\n"),
        (("sample", "settings"), 78, "notifier: one thing is wrong\nnotifier: another thing too\n"),
        (("sample", "interrupted"), 130, ""),
        (("sample", "seven"), 7, ""),
        (
            ("sample", "usage"),
            2,
            "notifier sample: Invalid value for --number: not together with --json\nTry 'notifier sample --help'.\n",
        ),
        (("sample", "--nope"), 2, "notifier sample: No such option: --nope\nTry 'notifier sample --help'.\n"),
        (("sample", "--number", "x"), 2, "notifier sample: Invalid value for '--number': "),
        (("--nope",), 2, "notifier: No such option: --nope\nTry 'notifier --help'.\n"),
        (("smaple",), 2, "notifier: No such command 'smaple'. Did you mean 'sample'"),
        (("samples", "shwo"), 2, "notifier samples: No such command 'shwo'. Did you mean 'show'?"),
        (("samples", "show"), 2, "notifier samples show: Missing argument 'name'.\n"),
    ],
)
def test_what_went_wrong_is_told_on_stderr_with_its_exit_code(
    call: Call, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert call(*arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert bool(err) == bool(said)
    assert "Traceback" not in err


@pytest.mark.parametrize("fault", ["bug", "socket"])
def test_a_fault_of_ours_keeps_its_traceback(call: Call, fault: str) -> None:
    with pytest.raises((ZeroDivisionError, BrokenPipeError)):
        call("sample", fault)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("sample", "x", "--number", "3", "--json"), "x 3 True\n"),
        (("sample", "--number=3", "x"), "x 3 False\n"),
        (("samples", "show", "it"), "shown it\n"),
        (("samples", "list"), "all\n"),
        (("single", "show"), "only one\n"),
    ],
)
def test_commands_and_groups_are_called(
    call: Call, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], printed: str
) -> None:
    assert call(*arguments) == 0
    assert capsys.readouterr() == (printed, "")


def test_a_command_whose_file_is_missing_breaks_no_other(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    assert call("sample") == 0
    assert "absent   its file does not exist" in capsys.readouterr().out
    with pytest.raises(ModuleNotFoundError):
        call("absent")


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [((), "Usage: notifier [OPTIONS] COMMAND [ARGS]..."), (("samples",), "Usage: notifier samples [OPTIONS] COMMAND")],
)
def test_without_a_command_the_help_is_told_as_a_usage_error(
    call: Call, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], usage: str
) -> None:
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert usage in err


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_says_what_it_is_then_what_to_try_then_the_commands_in_order(
    call: Call, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert call(option) == 0
    out, err = capsys.readouterr()
    assert err == ""
    landmarks = [
        "notifier tells merchants",
        "Usage:",
        "Try first:",
        "notifier dev",
        "\nFirst:",
        "\n  sample ",
        "\nSecond:",
        "\n  samples ",
    ]
    places = [out.index(landmark) for landmark in landmarks]
    assert places == sorted(places)


def test_help_of_a_command_breaks_its_prose_and_keeps_its_examples(
    call: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert call("sample", "--help") == 0
    out = capsys.readouterr().out
    assert "  Do what is asked, in a sentence that is long enough to\n  be broken" in out
    assert "  The second paragraph.\n" in out
    assert out.endswith("\nExamples:\n  notifier sample quietly \\\n      --number 2\n  notifier sample --json\n")
    assert "--no-json" not in out


def test_help_of_a_command_in_a_group_has_its_examples_too(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("samples", "show", "--help") == 0
    assert capsys.readouterr().out.endswith("\nExamples:\n  notifier samples show x\n")


@pytest.mark.parametrize(("group", "says"), [("samples", "Several of them."), ("single", "a group of one")])
def test_help_of_a_group_is_its_own_or_that_of_the_table(
    call: Call, capsys: pytest.CaptureFixture[str], group: str, says: str
) -> None:
    assert call(group, "--help") == 0
    assert says in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--version"]) == 0
    assert capsys.readouterr() == (f"notifier {notifier.__version__}\n", "")


# The real table


def test_the_table_names_each_command_once_under_its_own_name() -> None:
    names = [entry.name for entry in cli.COMMANDS]
    assert len(set(names)) == len(names)
    assert names[:3] == ["run", "enqueue", "dev"]
    for entry in cli.COMMANDS:
        assert entry.target in (f"notifier.cli.{entry.name}:{entry.name}", f"notifier.cli.{entry.name}:app")


def test_sections_of_the_table_are_not_torn_apart() -> None:
    sections = [entry.section for entry in cli.COMMANDS]
    assert sections == sorted(sections, key=sections.index)
