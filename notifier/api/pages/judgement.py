"""What is wrong, and what can be done about it from a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Field:
    """What has to be filled in for a way out."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Way:
    """One thing to do: a form that posts `values` to `where`, or a link to it. also: the label of a second button of
    the form, which sends again as well what `values` selects.
    """

    label: str
    where: str
    values: Mapping[str, str] = field(default_factory=dict)
    post: bool = True
    primary: bool = False
    ask: Field | None = None
    also: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong, and what to do. quote: the other side's own words. again: sending again by hand makes sense."""

    tone: str
    sentence: str
    explanation: str = ""
    ways: Sequence[Way] = ()
    quote: str = ""
    again: bool = True


def quoted(merchant: str) -> str:
    """A merchant's id as a part of an address."""
    return quote(merchant, safe="")


def place_of(merchant: str) -> str:
    """The address of a merchant's page."""
    return f"/merchants/{quoted(merchant)}"
