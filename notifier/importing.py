"""Importing quickly: what a start imports stays for good, so there is no use in looking through it for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """For a block that imports the most of a program. What exists at its end is never looked at by the collector again.

    A third of the time that our imports take is the collector's, which goes through the same modules again and again;
    it would do so for as long as the process lives, and once more while the interpreter ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
