"""The installed command as a user calls it: what needs no broker."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import dropwhile, groupby
from pathlib import Path

import pytest

import notifier
from notifier.cli import COMMANDS, execute

NOTIFIER = str(Path(sys.executable).with_name("notifier"))

#: A command of the test's own: it says that it runs, then waits for something that does not come.
WAITING = """
import sys
from types import ModuleType
import typer
from notifier import cli
from notifier.cli.lazy import Entry

def wait() -> None:
    typer.echo("waiting")
    sys.stdout.flush()
    sys.stdin.read()

module = sys.modules["waiting"] = ModuleType("waiting")
module.wait = wait
cli.COMMANDS = (Entry("Test", "wait", "waiting:wait", "wait"),)
sys.argv = ["notifier", "wait"]
cli.main()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFIER_", "PYTHON"))}
    return own | {"PATH": f"{Path(NOTIFIER).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", [(NOTIFIER,), (sys.executable, "-m", "notifier")], ids=["script", "module"])
def test_the_version_is_the_packages(environment: dict[str, str], command: tuple[str, ...]) -> None:
    done = run(environment, *command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"notifier {notifier.__version__}\n", "")


def test_the_help_lists_every_command_with_a_line_of_its_own(environment: dict[str, str]) -> None:
    done = run(environment, NOTIFIER, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for entry in COMMANDS:
        assert any(line.split(maxsplit=1) == [entry.name, entry.short] for line in lines)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_command_explains_itself(environment: dict[str, str], entry: object) -> None:
    name = entry.name  # type: ignore[attr-defined]  # an Entry
    done = run(environment, NOTIFIER, name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: notifier {name} ")


#: Commands that have commands.
GROUPS = ("ctl", "merchants", "notifications", "poison", "tokens", "topology")


class Helps:
    """What commands say with `--help`, here in this process: that each says it in one of its own is shown above."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._texts: dict[tuple[str, ...], str] = {}

    def __getitem__(self, command: tuple[str, ...]) -> str:
        if command not in self._texts:
            code = execute([*command, "--help"])
            told = self._capsys.readouterr()
            assert (code, told.err) == (0, "")
            self._texts[command] = told.out
        return self._texts[command]


def _examples(helps: Helps) -> list[str]:
    """The example lines of all help texts, without what runs into the next line."""
    found = []
    for entry in COMMANDS:
        texts = [helps[(entry.name,)]]
        for line in texts[0].partition("\nCommands:\n")[2].splitlines():
            if line.startswith("  ") and not line.startswith("   "):
                texts.append(helps[(entry.name, line.split()[0])])
        assert any("\nExamples:\n" in text for text in texts), f"{entry.name} has no examples"
        for text in texts:
            found += [line.strip() for line in text.partition("\nExamples:\n")[2].splitlines()]
    return found


def _commands(line: str) -> Iterator[list[str]]:
    """The calls of notifier in a line of shell, without the variables before them."""
    for piped, words in groupby(shlex.split(line.removesuffix("\\"), comments=True), lambda word: word == "|"):
        call = list(dropwhile(lambda word: "=" in word, words))
        if not piped and call and call[0] == "notifier":
            yield call


def test_every_command_has_examples_and_they_name_commands_and_options_that_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    helps = Helps(capsys)
    names = {entry.name for entry in COMMANDS}
    checked = 0
    for line in _examples(helps):
        for words in _commands(line):
            assert words[1] in names, line
            said = helps[tuple(words[1:3]) if words[1] in GROUPS else tuple(words[1:2])]
            for option in (word.split("=")[0] for word in words if word.startswith("--")):
                assert f" {option}" in said, f"{option} in: {line}"
            checked += 1
    assert checked >= len(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        (["ladder", "wechat"], {}, 0, ""),
        (["config"], {}, 0, ""),
        (["ladder", "nope"], {}, 1, "notifier: tier 1 of ladder 'nope'"),
        (["ladder", "--nope"], {}, 2, "notifier ladder: No such option: --nope\nTry 'notifier ladder --help'.\n"),
        (["nope"], {}, 2, "notifier: No such command 'nope'.\nTry 'notifier --help'.\n"),
        ([], {}, 2, "notifier tells merchants' servers"),
        (["config"], {"NOTIFIER_DELAYY": "x"}, 78, "unknown setting NOTIFIER_DELAYY: did you mean NOTIFIER_DELAY?\n"),
        (["config"], {"NOTIFIER_CONFIG": "none.toml"}, 78, "the settings file none.toml does not exist\n"),
        (["run"], {"NOTIFIER_PREFETCH": "x"}, 78, "NOTIFIER_PREFETCH is 'x'"),
        (["enqueue", "--file", "-"], {"NOTIFIER_LADDER": "x"}, 78, "NOTIFIER_LADDER: tier 1 of ladder 'x'"),
    ],
)
def test_exit_codes_and_sentences(
    environment: dict[str, str], arguments: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    done = run(environment | variables, NOTIFIER, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert bool(done.stderr) == bool(code)
    assert "Traceback" not in done.stderr


def test_a_flag_wins_over_the_environment_over_the_file_for_a_real_command(environment: dict[str, str]) -> None:
    Path("notifier.toml").write_text("ladder = '2s'\nprefetch = 5\n")
    told = json.loads(run(environment | {"NOTIFIER_LADDER": "4s"}, NOTIFIER, "config", "--json").stdout)
    values = {setting["name"]: (setting["value"], setting["place"]) for setting in told}
    assert values["ladder"] == ("4s", "NOTIFIER_LADDER")
    assert values["prefetch"] == (5, "notifier.toml")
    timetable = json.loads(run(environment | {"NOTIFIER_LADDER": "4s"}, NOTIFIER, "ladder", "6s", "--json").stdout)
    assert timetable["ladder"] == "6s"


@pytest.mark.parametrize("arguments", ["--help", "config", "config --json", "ladder wechat --json"])
def test_a_reader_that_leaves_early_is_no_error_to_talk_about(environment: dict[str, str], arguments: str) -> None:
    piped = run(environment, "sh", "-c", f"{shlex.quote(str(NOTIFIER))} {arguments} | head -n 1")
    assert piped.returncode == 0
    assert len(piped.stdout.splitlines()) == 1
    assert piped.stderr == ""


@pytest.mark.parametrize("arguments", [["--version"], ["ladder"], ["ladder", "nope"], ["config", "--json"]])
@pytest.mark.parametrize("buffering", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_reader_that_was_never_there_makes_it_fail_quietly(
    environment: dict[str, str], arguments: list[str], buffering: dict[str, str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [NOTIFIER, *arguments],
            env=environment | buffering,
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == ("nope" in arguments)  # what is wrong with the ladder, and nothing else


def test_without_a_stdout_at_all_nothing_breaks(environment: dict[str, str]) -> None:
    done = run(environment, "sh", "-c", f"{shlex.quote(str(NOTIFIER))} ladder >&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_output_that_knows_no_utf8_is_written_all_the_same(environment: dict[str, str]) -> None:
    done = run(environment | {"PYTHONIOENCODING": "latin-1"}, NOTIFIER, "config")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"whsec_\u2026" in done.stdout


def test_ctrl_c_ends_a_command_quietly_with_130(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stderr is not None
        assert waiting.stdout.readline() == "waiting\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=30) == 130
        assert waiting.stderr.read() == ""
