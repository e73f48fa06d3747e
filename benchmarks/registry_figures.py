"""The registry with few and with many merchants: its figures side by side, and by how much the many cost more. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.figures import Spread


@dataclass(frozen=True, slots=True)
class RegistryFigures:
    """What was measured with one number of merchants, one value each time; docs/benchmarks.md says what each means.

    *_s: seconds. start_cpu_s: of agent and tier process together, the copy is there. change_ms: from the request to the
    answer that all have it. *_mb: 10^6 bytes (PSS).
    """

    first_start_s: list[float]
    start_s: list[float]
    start_cpu_s: list[float]
    tier_restart_s: list[float]
    change_ms: list[float]
    tier_pss_mb: list[float]
    agent_pss_mb: list[float]


@dataclass(frozen=True, slots=True)
class RegistryComparison:
    """The same with few merchants and with many. others_share: as in `Figures`."""

    few: int
    many: int
    with_few: RegistryFigures
    with_many: RegistryFigures
    others_share: float


_TITLES = {
    "first_start_s": ("run until ready, the copy is made, s", ".2f"),
    "start_s": ("run until ready, the copy is there, s", ".2f"),
    "start_cpu_s": ("CPU of agent and tier process until then, s", ".2f"),
    "tier_restart_s": ("restart of the tier process, s", ".2f"),
    "change_ms": ("one change until all have it, ms", ".1f"),
    "tier_pss_mb": ("memory MB (PSS), tier process", ".1f"),
    "agent_pss_mb": ("memory MB (PSS), agent", ".1f"),
}


def growth(comparison: RegistryComparison) -> dict[str, float]:
    """By which share the median with many is over that with few, figure by figure."""
    return {
        each.name: Spread.of(getattr(comparison.with_many, each.name)).median
        / Spread.of(getattr(comparison.with_few, each.name)).median
        - 1
        for each in fields(RegistryFigures)
    }


def rows(comparison: RegistryComparison) -> list[list[str]]:
    """The cells of the table, its head first."""
    grown = growth(comparison)
    head = ["registry: median (min-max)", f"{comparison.few:,} merchants", f"{comparison.many:,} merchants", "grown by"]
    return [
        head,
        *(
            [
                title,
                Spread.of(getattr(comparison.with_few, name)).shown(form),
                Spread.of(getattr(comparison.with_many, name)).shown(form),
                f"{grown[name]:+.0%}",
            ]
            for name, (title, form) in _TITLES.items()
        ),
    ]


def summary(comparison: RegistryComparison) -> dict[str, Any]:
    """All values, and by how much each figure grew, as JSON values."""
    return {"values": asdict(comparison), "growth": growth(comparison)}
