"""The figures as a table for people and as values for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import Spread, ratios
from benchmarks.run import Figures

#: Side name, then its figures, pair by pair.
Results = Mapping[str, Sequence[Figures]]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. name: the field of Figures."""

    name: str
    title: str
    form: str


ROWS = (
    Row("enqueue_per_s", "enqueue/s, middle of the sending", ",.0f"),
    Row("enqueue_whole_per_s", "enqueue/s, whole process", ",.0f"),
    Row("delivered_per_s", "delivered/s, backlog", ",.0f"),
    Row("backlog_cpu_ms", "CPU ms per notification, backlog", ".3f"),
    Row("steady_cpu_ms", "CPU ms per notification, steady", ".3f"),
    Row("late_p50_ms", "late ms, p50, steady", ".1f"),
    Row("late_p99_ms", "late ms, p99, steady", ".1f"),
    Row("late_max_ms", "late ms, max, steady", ".1f"),
    Row("worker_pss_mb", "memory MB (PSS), worker process", ".1f"),
    Row("master_pss_mb", "memory MB (PSS), master", ".1f"),
    Row("broker_cpu_ms", "broker CPU ms per notification", ".3f"),
)


def summary(results: Results) -> dict[str, Any]:
    """Median, least and most of every figure per side, and the ratios of the sides pair by pair, as JSON values."""
    sides = {
        side: {
            row.name: None if (values := _values(figures, row)) is None else asdict(Spread.of(values)) for row in ROWS
        }
        for side, figures in results.items()
    }
    return {"sides": sides, "ratios": {row.name: _ratios(results, row) for row in ROWS} if len(results) == 2 else None}


def table(results: Results) -> str:
    """Lines for a terminal of some 120 columns."""
    head = ["", *(f"{side}: median (min-max)" for side in results)]
    if len(results) == 2:
        head.append(" / ".join(results) + ", pair by pair")
    return aligned([head, *(_cells(results, row) for row in ROWS)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells below each other: titles to the left, all else to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in lines
    )


def _cells(results: Results, row: Row) -> list[str]:
    cells = [row.title]
    for figures in results.values():
        values = _values(figures, row)
        cells.append("-" if values is None else Spread.of(values).shown(row.form))
    if len(results) == 2:
        found = _ratios(results, row)
        cells.append("-" if found is None else "  ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in found))
    return cells


def _values(figures: Sequence[Figures], row: Row) -> list[float] | None:
    values = [getattr(each, row.name) for each in figures]
    return None if None in values else values


def _ratios(results: Results, row: Row) -> list[float | None] | None:
    ours, theirs = (_values(figures, row) for figures in results.values())
    return None if ours is None or theirs is None else ratios(ours, theirs)
