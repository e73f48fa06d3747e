"""Sections of the settings that keep one merchant from harming another, and tell operators; `settings.py` has all the
rest.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from notifier.domain.notification import check_url
from notifier.domain.operations import Event


class Isolation(BaseModel):
    """What one merchant may take of a tier process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int = Field(
        default=20, ge=1, le=2000, description="callbacks at once to a merchant that states no bound, per tier process"
    )
    rate: float | None = Field(
        default=None, gt=0, le=100_000, description="callbacks per second, likewise; unset: no bound"
    )
    share: float = Field(
        default=0.25, gt=0, le=1, description="of the free prefetch, what a slow merchant may hold; the rest is held"
    )


class Breaker(BaseModel):
    """When a merchant that fails is left alone for a while (a circuit breaker)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="false: a merchant is called however often it fails")
    attempts: int = Field(default=20, ge=2, le=10_000, description="fewest attempts within the window that can open it")
    ratio: float = Field(default=0.8, gt=0, le=1, description="share of them that must have failed")
    window: float = Field(default=60.0, ge=1, le=3600, description="seconds over which attempts are counted")
    pause: float = Field(
        default=30.0, gt=0, le=3600, description="seconds before a first probe; doubled with each that fails"
    )
    longest_pause: float = Field(default=600.0, gt=0, le=86_400, description="seconds that a pause grows to")
    disable_after: float = Field(
        default=5.0,
        ge=0,
        le=90,
        description="days of nothing but failures after which a merchant is disabled; 0: never",
    )


def _listed(value: object) -> object:
    return ",".join(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else value


def _events(text: str) -> str:
    for name in _names(text):
        if name not in list(Event):
            raise ValueError(f"{name!r:.60} is no event; possible are {', '.join(Event)}")
    return text


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


class Operations(BaseModel):
    """Where operators are told of what they should know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(check_url)] | None = Field(
        default=None, description="where operator events are posted, signed; unset: nobody is told"
    )
    events: Annotated[str, BeforeValidator(_listed), AfterValidator(_events)] = Field(
        default=",".join(Event), description="which events, comma-separated"
    )
    interval: float = Field(
        default=300.0, ge=1, le=86_400, description="seconds in which of one kind at most ten events are sent"
    )
    late: float = Field(default=30.0, gt=0, le=86_400, description="seconds of lateness from which a tier is late")
    late_for: float = Field(
        default=60.0, ge=0, le=86_400, description="seconds that a tier must be late before it is told"
    )

    @property
    def wanted(self) -> frozenset[Event]:
        """`events`, parsed; none without an address."""
        return frozenset(Event(name) for name in _names(self.events)) if self.url is not None else frozenset()
