"""`notifier config`: effective settings, secrets masked, and where each came from."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from notifier import cli
from notifier.sources import known

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("NOTIFIER_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("NOTIFIER_AMQP_URL", "amqp://shop:hunter2@rabbit/")
    monkeypatch.setenv("NOTIFIER_SIGNING_SECRET", SECRET)
    monkeypatch.setenv("NOTIFIER_EGRESS__TIMEOUT", "2.5")
    Path("notifier.toml").write_text("prefetch = 50\n[egress]\ntimeout = 9\n[ladders]\nnight = '1h'\n")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> str:
        assert cli.execute(["config", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "hunter2" not in out
        assert "MfKQ9r8" not in out
        return out

    return call


def test_each_setting_is_one_line_with_value_origin_and_meaning(printed: Any) -> None:
    table, _, foot = printed().partition("\n\n")
    head, *rows = [re.split(r" {2,}", line) for line in table.splitlines()]
    assert head == ["SETTING", "VALUE", "FROM", "MEANING"]
    assert [row[0] for row in rows] == [*known(), "ladders.night"]
    told = {row[0]: row[1:3] for row in rows}
    assert told["amqp_url"] == ["amqp://shop:***@rabbit/", "NOTIFIER_AMQP_URL"]
    assert told["signing_secret"] == ["whsec_***", "NOTIFIER_SIGNING_SECRET"]
    assert told["egress.timeout"] == ["2.5", "NOTIFIER_EGRESS__TIMEOUT"]
    assert told["prefetch"] == ["50", "notifier.toml"]
    assert told["ladders.night"] == ["1h", "notifier.toml"]
    assert told["callback"] == ["not set", "default"]
    assert told["egress.allow"] == ["not set", "default"]
    assert told["drain_timeout"] == ["25", "default"]
    assert all(len(row) == 4 and row[3] for row in rows)
    assert foot == f"file: {Path.cwd() / 'notifier.toml'}\n"


def test_json_has_the_values_as_they_are(printed: Any) -> None:
    told = {setting.pop("name"): setting for setting in json.loads(printed("--json"))}
    assert set(told) == {*known(), "ladders.night"}
    assert told["egress.timeout"] == {
        "value": 2.5,
        "source": "environment",
        "place": "NOTIFIER_EGRESS__TIMEOUT",
        "meaning": known()["egress.timeout"],
    }
    assert (told["prefetch"]["value"], told["prefetch"]["source"]) == (50, "file")
    assert (told["callback"]["value"], told["callback"]["source"], told["callback"]["place"]) == (None, "default", None)


def test_a_missing_file_is_told(printed: Any) -> None:
    Path("notifier.toml").unlink()
    assert printed().endswith(f"file: {Path.cwd() / 'notifier.toml'} (there is none)\n")


def test_settings_that_are_wrong_end_with_78_and_a_line_for_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFIER_DELAY", "x")
    Path("notifier.toml").write_text("prefetch = 0")
    assert cli.execute(["config"]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" is ")[0] for line in err.splitlines()] == [
        "notifier: NOTIFIER_DELAY",
        "notifier: prefetch in notifier.toml",
    ]


def test_on_a_terminal_the_meaning_is_wrapped_in_its_column(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = printed().splitlines()
    assert max(map(len, lines[:-1])) <= 120
    column = lines[0].index("MEANING")
    wrapped = [line for line in lines[1:-2] if line.startswith(" " * column)]
    assert wrapped
    assert all(line[column - 2 : column] == "  " for line in lines[1:-2])
