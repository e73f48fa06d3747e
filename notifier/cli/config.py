"""`notifier config`: the effective settings, and where each came from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from notifier.cli.options import AsJson
from notifier.cli.table import print_table
from notifier.settings import Settings
from notifier.sources import FILE, FILE_VARIABLE, LADDERS, Origin, known, traced


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. source: default, file or environment. place: the variable, or the file's path."""

    name: str
    value: Any
    source: str
    place: str | None
    meaning: str


def config(as_json: AsJson = False) -> None:
    """Print the effective settings, secrets masked, and where each came from.

    Order: a command's flag over NOTIFIER_… in the environment over notifier.toml in the working directory (or the file
    that NOTIFIER_CONFIG names) over the default. In the environment a setting is written in capitals, a section with
    two underscores: egress.allow is NOTIFIER_EGRESS__ALLOW.

    Examples:
      notifier config
      NOTIFIER_PREFETCH=50 notifier config --json
    """
    settings, origins = traced()
    shown = list(_settings(settings, origins))
    if as_json:
        typer.echo(json.dumps([asdict(setting) for setting in shown], indent=2, ensure_ascii=False))
        return
    print_table(
        ["SETTING", "VALUE", "FROM", "MEANING"],
        [[setting.name, _plain(setting.value), setting.place or setting.source, setting.meaning] for setting in shown],
    )
    path = Path(os.environ.get(FILE_VARIABLE) or FILE)
    typer.echo(f"\nfile: {path.absolute()}{'' if path.exists() else ' (there is none)'}")


def _settings(settings: Settings, origins: dict[str, Origin]) -> Iterator[Setting]:
    masked = settings.masked()
    meanings = known() | {f"{LADDERS}.{name}": "a ladder of your own" for name in settings.ladders}
    for name, meaning in meanings.items():
        section, _, part = name.partition(".")
        origin = origins.get(name)
        yield Setting(
            name,
            masked[section][part] if part else masked[name],
            origin.kind if origin else "default",
            origin.place if origin else None,
            meaning,
        )


def _plain(value: object) -> str:
    if value is None or value == "":
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value)
