"""What docs/ lists is what the code has: events, headers, kinds, classes, settings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import notifier
from notifier.domain import wire
from notifier.domain.fact import Kind
from notifier.domain.outcome import ErrorClass
from notifier.settings import Settings
from notifier.sources import FILE_VARIABLE, PREFIX, is_known

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
WIRE = (ROOT / "docs/wire.md").read_text()

#: Methods that tell an event, and below which directory they do: its name is their first argument.
TELLERS = {"event": "", "_tell": "supervision"}


def test_every_event_of_the_log_is_described_and_no_other() -> None:
    log = section(OPERATIONS, "The log")
    described = {name for row in rows(log) for name in re.findall(r"`([\w.-]+)`", row[0])}
    assert described == {name for name, _ in events()}


def test_every_field_of_an_event_is_described() -> None:
    fields = {
        name: set(re.findall(r"`(\w+)`", row[2]))
        for row in rows(section(OPERATIONS, "The log"))
        for name in re.findall(r"`([\w.-]+)`", row[0])
    }
    for name, told in events():
        assert told - {"exc_info", "level"} <= fields[name], name


def test_the_headers_of_a_notification_are_those_that_are_read() -> None:
    table = [row for row in rows(section(WIRE, "A notification")) if len(row) == 3]
    described = {name for row in table for name in re.findall(r"`([\w-]+)`", row[0])}
    assert described == wire._KNOWN


def test_the_kinds_of_facts_are_all_described() -> None:
    facts = section(WIRE, "Facts")
    described = {name for row in rows(facts) for name in re.findall(r"`(\w+)`", row[0])}
    assert described == {kind.value for kind in Kind}


def test_the_classes_of_errors_are_all_described() -> None:
    (listed,) = re.findall(r"`error` is one of (.*?);", WIRE, re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", listed)) == {error.value for error in ErrorClass}


def test_the_defaults_in_the_readme_are_the_settings() -> None:
    for variable, stated, *_ in rows(section((ROOT / "README.md").read_text(), "Settings")):
        name, _, part = variable.strip("`").removeprefix(PREFIX).lower().partition("__")
        default = getattr(Settings(), name)
        assert stated.strip("`") == written(getattr(default, part) if part else default), variable


def written(default: object) -> str:
    """As the README writes it."""
    if default in (None, ""):
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_a_page_names_is_a_setting(page: Path) -> None:
    for variable in re.findall(rf"\b{PREFIX}[A-Z_]+", page.read_text()):
        name = variable.removeprefix(PREFIX).lower().replace("__", ".")
        assert variable == FILE_VARIABLE or is_known(name), f"{page.name} names {variable}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    for link in links:
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def events() -> list[tuple[str, set[str]]]:
    """Every event in the code with the names of its fields."""
    found = []
    for file in sorted(Path(notifier.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and node.args
                and TELLERS.get(_called(node.func), "nowhere") in file.parts[-2]
            ):
                fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                found += [(name, fields) for name in _names(node.args[0], file)]
    return found


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ""


def _names(argument: ast.expr, file: Path) -> list[str]:
    """The event's name; both, where a line above chooses between two."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return [argument.value]
    if isinstance(argument, ast.Name) and argument.id == "name":
        chosen = re.findall(r'name = "([\w.]+)" if .* else "([\w.]+)"', file.read_text())
        return [name for pair in chosen for name in pair]
    return []


def section(page: str, title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """The rows of all tables that begin with a name, without the tables' heads."""
    tables = re.sub(r"^\|.*\n(?=\|---)", "", text, flags=re.MULTILINE)
    cells = [line.strip("|").split(" | ") for line in tables.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells if "`" in row[0]]
