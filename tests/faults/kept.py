"""Evidence in files, so that a judgement can be repeated: by a judge who was changed since, or to look closer."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import re
import sys
from pathlib import Path

from tests.faults.verdict import Evidence


def file_of(directory: Path, name: str) -> Path:
    """Where the evidence of the row with this name is."""
    return directory / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.gz"


async def keep(directory: Path, name: str, evidence: Evidence) -> None:
    """Write down the evidence of a row. A disk that is full costs the file, not the row.

    Pickled, since that takes a tenth of the time of JSON, in which the load of other faults would stand still.
    """
    whole = pickle.dumps((name, evidence), protocol=pickle.HIGHEST_PROTOCOL)
    try:
        await asyncio.to_thread(_write, file_of(directory, name), whole)
    except OSError as error:
        print(f"  the evidence of {name} is not kept: {error}", file=sys.stderr, flush=True)


def _write(file: Path, whole: bytes) -> None:
    fresh = file.with_name(f"{file.name}.fresh")
    fresh.write_bytes(gzip.compress(whole, compresslevel=1))
    fresh.replace(file)  # there is all of it, or none


def read(file: Path) -> tuple[str, Evidence]:
    """The name of a row, and its evidence. Only of files that the suite itself wrote."""
    name, evidence = pickle.loads(gzip.decompress(file.read_bytes()))
    assert isinstance(evidence, Evidence)
    return str(name), evidence
