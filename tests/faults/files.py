"""Files by which the suite tells something to a process that looks at them at any moment."""

from __future__ import annotations

from pathlib import Path


def put(file: Path, text: str) -> None:
    """Write a file so that whoever reads it finds all of the text, or what was there before."""
    fresh = file.with_name(f"{file.name}.fresh")
    fresh.write_text(text)
    fresh.replace(file)
