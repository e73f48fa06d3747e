"""What ends a fault run besides a broken promise."""

from __future__ import annotations


class DidNotBite(Exception):
    """A fault was injected and nothing of it could be seen: the run would prove nothing."""
