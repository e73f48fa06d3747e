"""Moments of the wall clock, as people and programs read them: UTC, ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime


def shown(seconds: float) -> str:
    """Unix seconds as `2026-11-21T10:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(text: str) -> float:
    """Unix seconds of an ISO 8601 moment; one without a zone is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
