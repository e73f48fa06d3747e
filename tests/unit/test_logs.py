"""Log lines: one event a line, the same fields for people and for programs."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import logs


class Colour(StrEnum):
    RED = "red"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("notifier")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def said(form: str, stream: io.StringIO | None = None, **event: Any) -> str:
    stream = stream or io.StringIO()
    logs.configure("debug", form, "tier 5s", stream)
    logs.event("attempt", **event)
    return stream.getvalue()


def console(**event: Any) -> str:
    """The line after its moment."""
    line = said("console", **event)
    moment, _, rest = line.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    return rest.removesuffix("\n")


def as_json(**event: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(said("json", **event))
    return parsed


def test_a_console_line_is_moment_process_event_and_fields() -> None:
    assert console(id="ntf_1", status=200) == "tier 5s    attempt    id=ntf_1 status=200"


def test_a_json_line_holds_the_same_and_its_level() -> None:
    line = as_json(id="ntf_1", status=200)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {"level": "info", "process": "tier 5s", "event": "attempt", "id": "ntf_1", "status": 200}


def test_fields_that_are_none_are_left_out() -> None:
    assert console(a=None, b=0) == "tier 5s    attempt    b=0"
    assert "a" not in as_json(a=None)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('a "quote"', r'"a \"quote\""'),
        ("a=b", '"a=b"'),
        ("line\nbreak", r'"line\nbreak"'),
        ("\x1b[2Jcleared", r'"\u001b[2Jcleared"'),
        ("\x9b2J", r'"\u009b2J"'),
        ("\u202egnp.exe", r'"\u202egnp.exe"'),
        ("商户", "商户"),
        ("商户 1", '"商户 1"'),
        (Colour.RED, "red"),
        (True, "true"),
        (7, "7"),
        (0.0123456, "0.0123"),
        (3.14159, "3.14"),
        (1234.56, "1234.6"),
        (["a", "b c"], '["a", "b c"]'),
        ({"a": None}, '{"a": null}'),
        (ValueError("bad thing"), '"bad thing"'),
    ],
)
def test_a_value_on_the_console_is_short_and_harmless(value: object, written: str) -> None:
    assert console(x=value) == f"tier 5s    attempt    x={written}"


@given(st.text())
def test_no_text_breaks_out_of_its_line(text: str) -> None:
    line = said("console", detail=text)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(said("json", detail=text))["detail"] == text


def test_fields_cannot_take_the_place_of_what_every_line_has() -> None:
    line = as_json(ts="never", process="other", event="forged", logger="x")
    assert (line["process"], line["event"]) == ("tier 5s", "attempt")
    assert line["ts"] != "never"


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_only_events_of_the_level_and_above_are_told(level: str, told: list[str]) -> None:
    stream = io.StringIO()
    logs.configure(level, "json", "master", stream)
    for one in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logs.event("x", one)
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == told


@pytest.mark.parametrize(("level", "told"), [("debug", 2), ("info", 2), ("warning", 2), ("error", 1)])
def test_libraries_are_heard_from_warnings_up(level: str, told: int) -> None:
    stream = io.StringIO()
    logs.configure(level, "json", "master", stream)
    library = logging.getLogger("some.library")
    library.info("chatter")
    library.warning("careful with %s", "this")
    library.error("broken")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == told
    assert all(line["logger"] == "some.library" for line in lines)
    assert lines[-1]["event"] == "broken"


def test_a_librarys_line_on_the_console_names_it_and_stays_one_line() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", "master", stream)
    logging.getLogger("some.library").warning("two\nlines")
    assert stream.getvalue().endswith('some.library: "two\\nlines"\n')


def _error() -> Exception:
    try:
        raise RuntimeError("no \x1b[31mcolours, please")
    except RuntimeError as error:
        return error


def test_an_exception_is_told_with_its_traceback() -> None:
    assert "RuntimeError: no \x1b[31mcolours, please" in as_json(exc_info=_error())["traceback"]
    line, *trace = said("console", exc_info=_error()).splitlines()
    assert line.endswith("attempt")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == r'"RuntimeError: no \u001b[31mcolours, please"'


@pytest.mark.parametrize(
    ("level", "code"), [(logging.DEBUG, "2"), (logging.INFO, None), (logging.WARNING, "33"), (logging.ERROR, "31")]
)
def test_a_terminal_shows_levels_as_colours(level: int, code: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = said("console", Terminal(), level=level)
    if code is None:
        assert "\x1b" not in line
    else:
        assert line.startswith(f"\x1b[{code}m")
        assert line.endswith("\x1b[0m\n")


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in said("console", Terminal(), level=logging.ERROR)


def test_the_last_configuration_counts() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", "console", "a", first)
    logs.configure("info", "console", "b", second)
    logs.event("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
