"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

#: On every command that reads: JSON on stdout for programs.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
