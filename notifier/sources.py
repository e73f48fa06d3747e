"""Where settings come from, and what is said when they are wrong.

Order: a command's flag over the environment over `notifier.toml` over the default. Names in the environment are
`NOTIFIER_` and the setting in capitals; a setting inside a section has two underscores (`NOTIFIER_EGRESS__ALLOW`).
Lists are written with commas, in the file as TOML lists too. An empty value counts as not set. Unknown settings are
refused by name, in the file and in the environment.

Read by hand, not by pydantic-settings: that one accepts unknown variables, wants JSON for lists, tells neither the
variable nor the file in its errors, and takes 20 ms longer to import, at every command.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from notifier import given
from notifier.errors import ConfigurationError
from notifier.given import FILE as FILE
from notifier.given import FILE_VARIABLE as FILE_VARIABLE
from notifier.given import PREFIX as PREFIX
from notifier.settings import SECRET, Settings

#: The section whose names are the user's own.
LADDERS = "ladders"

Kind = Literal["file", "environment", "flag"]


class Origin(NamedTuple):
    """Where a value came from. name: the setting, dotted. place: the variable or the file's path; empty for a flag."""

    kind: Kind
    name: str
    place: str

    @property
    def written(self) -> str:
        """The setting as it is called there, for errors."""
        match self.kind:
            case "environment":
                return self.place
            case "file":
                return f"{self.name} in {self.place}"
            case "flag":
                return f"setting {self.name}"


def traced(
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> tuple[Settings, dict[str, Origin]]:
    """As `settings.load`, and where each value came from, by its dotted name; a name not in there has its default."""
    environment = os.environ if environment is None else environment
    asked_for = file or environment.get(FILE_VARIABLE)
    path = Path(asked_for or FILE)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    unknown: list[str] = []
    for kind, place, written in _sources(path, bool(asked_for), environment, overrides or {}):  # a later one wins
        unknown += [_name_it(Origin(kind, name, place(name))) for name in written if not is_known(name)]
        present = {name: value for name, value in written.items() if value not in (None, "")}
        values |= present
        origins |= {name: Origin(kind, name, place(name)) for name in present}
    if unknown:
        raise ConfigurationError("\n".join(unknown))
    try:
        return Settings.model_validate(_nested(values)), origins
    except ValidationError as error:
        # a default that depends on another value is not at fault if that one is
        problems = [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]
        raise ConfigurationError("\n".join(_explain(problem, origins) for problem in problems)) from None


@cache
def known() -> dict[str, str]:
    """What every setting means, by its dotted name. `[ladders]` is not among them: its names are the user's."""
    described: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            described |= {f"{name}.{part}": str(of.description) for part, of in field.annotation.model_fields.items()}
        elif name != LADDERS:
            described[name] = str(field.description)
    return described


def is_known(name: str) -> bool:
    """Whether there is a setting of this dotted name."""
    return name in known() or name.startswith(f"{LADDERS}.")


def _sources(
    path: Path, required: bool, environment: Mapping[str, str], overrides: Mapping[str, Any]
) -> Iterator[tuple[Kind, Callable[[str], str], Mapping[str, Any]]]:
    yield "file", lambda _: str(path), _flat(given.read(path, required=required))
    variables = [name for name in environment if name.startswith(PREFIX) and name != FILE_VARIABLE]
    yield "environment", given.variable, {_setting(name): environment[name] for name in variables}
    yield "flag", lambda _: "", _flat(overrides)


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= {f"{name}.{part}": of for part, of in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        section, dot, part = name.partition(".")
        if dot:
            nested.setdefault(section, {})[part] = value
        else:
            nested[name] = value
    return nested


def _setting(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower().replace("__", ".", 1)


def _name_it(origin: Origin) -> str:
    as_there = given.variable if origin.kind == "environment" else str
    sections = {name.partition(".")[0] for name in known() if "." in name} | {LADDERS}
    inside = [name for name in (*known(), f"{LADDERS}.NAME") if name.startswith(f"{origin.name}.")]
    close = difflib.get_close_matches(origin.name, [*known(), *sorted(sections)], n=1)
    if inside:
        hint = f"that is a section, holding {', '.join(as_there(name) for name in inside)}"
    elif close:
        hint = f"did you mean {as_there(close[0])}?"
    else:
        hint = "`notifier config` lists all there are"
    return f"unknown setting {origin.written}: {hint}"


def _explain(problem: Mapping[str, Any], origins: Mapping[str, Origin]) -> str:
    name = ".".join(str(part) for part in problem["loc"][:2])
    written = origins[name].written if name in origins else f"setting {name}"
    if problem["type"] == "value_error":  # our own sentence
        return f"{written}: {problem['msg'].removeprefix('Value error, ')}"
    value = "" if name in SECRET else f" is {problem['input']!r:.80}"
    return f"{written}{value}: {problem['msg']} ({known().get(name, 'a ladder, such as 1s,3s,5s')})"
