"""A master that is pretended: what the commands that talk to one are tested with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

SLOTS = ["tier:1s", "tier:5s", "tier:30s"]
Result = dict[str, Any]


def slot(name: str) -> dict[str, Any]:
    return {
        "slot": name, "groups": ["tier", name], "state": "ready", "pid": 77, "epoch": 1,
        "since": "2026-11-21T09:00:00.000Z", "started": "2026-11-21T09:00:00.000Z", "uptime": 60.0, "restarts": 0,
        "reason": None, "degraded": False, "applied": 1, "wanted": 1, "errors": {}, "silent": 0.1, "waiting": 0,
        "note": None,
        "statistics": {"in_flight": 2, "prefetch": 200, "rate": 1.5, "attempts": 1200, "completed": 1000, "failed": 200,
                       "held": 0, "poisoned": 0, "late_p50_ms": 4.2, "late_p99_ms": 38.0, "link": "up",
                       "careful": False},
    }  # fmt: skip


class Master:
    """Answers as a master would, from what a test gives it. asked: what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.directory: Path | None = None
        self.slots = [slot(name) for name in SLOTS]
        self.entries: list[dict[str, Any]] = []
        self.results: dict[str, Result] = {}
        self.saved = True
        self.answers: dict[str, Any] = {}
        self.happening: list[dict[str, Any]] = []

    async def ask(self, verb: str, body: Mapping[str, Any] | None = None, *, timeout: float = 30.0) -> Any:
        self.asked.append((verb, dict(body or {})))
        if verb in self.answers:
            if isinstance(self.answers[verb], Exception):
                raise self.answers[verb]
            return self.answers[verb]
        match verb:
            case "status":
                return {
                    "pid": 7, "since": "2026-11-21T08:00:00.000Z", "state": "running", "version": 1,
                    "saved": True, "state_entries": len(self.entries), "slots": self.slots,
                }  # fmt: skip
            case "state":
                return self._page(int((body or {})["after"]))
            case "push" | "clear":
                slots = [
                    {"slot": name, "epoch": 1, **self.results.get(name, _APPLIED)}
                    for name in (slot["slot"] for slot in self.slots)
                ]
                return {"key": (body or {})["key"], "version": 2, "saved": self.saved, "slots": slots}
            case "ping":
                return {"pid": 7, "version": 1}
        raise AssertionError(f"no test expects {verb}")

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        for event in self.happening:
            yield event

    async def close(self) -> None:
        self.asked.append(("close", {}))

    def pushed(self) -> list[tuple[str, dict[str, Any]]]:
        return [(verb, body) for verb, body in self.asked if verb in ("push", "clear")]

    def _page(self, after: int) -> dict[str, Any]:
        page = [entry for entry in self.entries if entry["version"] > after][:2]
        version = page[-1]["version"] if page else after
        return {"entries": page, "version": version, "complete": version >= len(self.entries)}


_APPLIED: Result = {"result": "applied", "version": 2}
