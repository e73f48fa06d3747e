"""Sections of the settings that keep one merchant from harming another; `settings.py` has all the rest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
