"""Templates to pages. Whatever is put into one is escaped; only this package's own markup is not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from notifier import __version__
from notifier.api.pages import words

_TEMPLATES = Path(__file__).parent.parent / "templates"

#: Statuses of a notification: the word for people, and its tone.
STATUSES: Mapping[str, tuple[str, str]] = {
    "accepted": ("accepted", "wait"),
    "attempted": ("on its ladder", "wait"),
    "held": ("held", "held"),
    "stopped": ("stopped", "bad"),
    "exhausted": ("ladder used up", "bad"),
    "completed": ("delivered", "good"),
    "poisoned": ("unreadable", "bad"),
}

_environment = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_environment.filters |= {
    "span": words.span,
    "millis": words.millis,
    "number": words.number,
    "rate": words.rate,
    "percent": words.percent,
    "nth": words.nth,
    "ladder": words.listed,
    "compact": words.compact,
}
_environment.globals |= {"many": words.many, "STATUSES": STATUSES, "release": __version__}


def render(template: str, now: datetime | None = None, **values: Any) -> str:
    """A template of this package with these values. now: what `when` and `ago` are told against."""
    moment = now or datetime.now(UTC)
    return _environment.get_template(template).render(
        values,
        now=moment,
        when=lambda value, exact=False: words.when(value, moment, exact=exact),
        ago=lambda value: words.ago(value, moment),
    )
