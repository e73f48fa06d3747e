"""Imports point down only (DESIGN §7), and what must stay in one place stays there."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import notifier

ROOT = Path(notifier.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

BASE = {
    "bounded",
    "cancellation",
    "errors",
    "given",
    "importing",
    "logs",
    "runtime",
    "settings",
    "sections",
    "sources",
    "__version__",
}
EDGES = {"broker", "webhook", "registry"}

#: Who may import whom inside the package; everyone may import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "bounded": set(),
    "cancellation": set(),
    "errors": set(),
    "logs": set(),
    "domain": {"errors"},
    "given": {"errors"},
    "importing": set(),
    "runtime": {"errors", "given"},
    "sections": {"domain", "errors"},
    "settings": {"domain", "errors", "runtime", "sections", "sources"},
    "sources": {"domain", "errors", "given", "settings"},
    "supervision": {"cancellation", "errors", "logs"},
    "extensions": {"bounded", "cancellation", "supervision", "errors", "logs"},
    "broker": {"domain", *BASE},
    "webhook": {"domain", *BASE},
    "registry": {"domain", *BASE},
    "ledger": {"domain", *BASE},
    "simulator": {"domain", *BASE},
    "delivery": {"domain", *EDGES, *BASE},
    "agent": {"delivery", "domain", "ledger", "supervision", *EDGES, *BASE},
    "api": {"delivery", "domain", "ledger", "supervision", *EDGES, *BASE},
    "processes": {
        "agent",
        "api",
        "delivery",
        "domain",
        "extensions",
        "ledger",
        "simulator",
        "supervision",
        *EDGES,
        *BASE,
    },
    "cli": {"api", "delivery", "domain", "ledger", "processes", "simulator", "supervision", *EDGES, *BASE},
    "__main__": {"cli"},
    "__init__": set(),
}

#: Libraries that belong to one place, so that only that place knows them.
AT_HOME: dict[str, set[str]] = {
    "aio_pika": {"broker"},
    "aiormq": {"broker"},
    "pamqp": {"broker"},
    "aiohttp": {"webhook", "simulator", "api"},
    "sqlalchemy": {"ledger"},
    "alembic": {"ledger"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "jinja2": {"api"},
    "prometheus_client": {"api"},
    "uvicorn": {"api", "processes"},
    "typer": {"cli"},
    "rich": {"cli"},
    "uvloop": {"processes", "cli"},
    "setproctitle": {"processes"},
    "pydantic_settings": {"settings"},
}

#: What reaches outside the process, reads the clock or waits: none of it in the domain.
IMPURE = {
    "asyncio", "concurrent", "logging", "multiprocessing", "os", "pathlib", "random", "select",
    "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request",
}  # fmt: skip


def room(file: Path) -> str:
    """The first part below the package: `domain`, `broker` … or the name of a module at the top."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def statements(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """What a file imports, read once for all questions."""
    tree = ast.parse(file.read_bytes())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(file: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in it the import stands."""
    for node in statements(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "notifier" and len(parts) > 1 else None


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT.parent))


@pytest.mark.parametrize("file", FILES, ids=shown)
def test_imports_point_down_only(file: Path) -> None:
    allowed = MAY_IMPORT[room(file)] | {room(file)}
    assert [name for name in imported(file) if (inside(name) or room(file)) not in allowed] == []


@pytest.mark.parametrize("file", FILES, ids=shown)
def test_libraries_stay_where_they_are_at_home(file: Path) -> None:
    strangers = [name for name in imported(file) if room(file) not in AT_HOME.get(name.split(".")[0], {room(file)})]
    assert strangers == []


@pytest.mark.parametrize("file", [file for file in FILES if room(file) == "processes"], ids=shown)
def test_only_agent_and_api_know_the_ledger(file: Path) -> None:
    if file.stem not in ("agent", "api"):
        assert [name for name in imported(file) if inside(name) == "ledger"] == []


@pytest.mark.parametrize("file", [file for file in FILES if room(file) == "domain"], ids=shown)
def test_the_domain_is_pure(file: Path) -> None:
    reached = [name for name in imported(file) if any(name == part or name.startswith(part + ".") for part in IMPURE)]
    assert reached == []
    tree = ast.parse(file.read_bytes())
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, waits)] == []
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert {call for call in called if call == "open" or call.split(".")[-1] in ("now", "utcnow", "today")} == set()


@pytest.mark.parametrize("file", [file for file in FILES if room(file) == "supervision"], ids=shown)
def test_supervision_is_blind_to_what_it_supervises(file: Path) -> None:
    assert re.findall("broker|rabbit|amqp|merchant|webhook", file.read_text(), re.IGNORECASE) == []


def test_the_rules_know_every_room_and_look_at_files() -> None:
    assert {room(file) for file in FILES} <= MAY_IMPORT.keys()
    assert {"domain", "supervision", "processes"} <= {room(file) for file in FILES}
