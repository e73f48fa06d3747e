"""Tables for people on stdout."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence

import typer

_GAP = 2
#: The last column is wrapped no narrower than this; on a narrower terminal its lines simply run over.
_LEAST = 24


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns under their heads. On a terminal the last column is wrapped within itself; in a pipe each
    row is one line.
    """
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads) - 1)]
    before = sum(widths) + _GAP * len(widths)
    room = shutil.get_terminal_size().columns - before if sys.stdout is not None and sys.stdout.isatty() else 0
    for row in [heads, *rows]:
        first = "".join(cell.ljust(width + _GAP) for cell, width in zip(row, widths, strict=False))
        last = textwrap.wrap(row[-1], room, break_on_hyphens=False) if room >= _LEAST else [row[-1]]
        lines = [first + (last[0] if last else ""), *(" " * before + line for line in last[1:])]
        typer.echo("\n".join(line.rstrip() for line in lines))
