"""What a slot looks like to an operator."""

from __future__ import annotations

from typing import Any

from notifier.supervision import moments
from notifier.supervision.slot import Slot

#: Characters of a sentence shown.
SENTENCE_LIMIT = 300
#: Keys shown that a process could not apply.
ERRORS_LIMIT = 20


def of_slot(slot: Slot, now: float, wall: float, version: int) -> dict[str, Any]:
    """now, wall: the same moment, by the loop's clock and by the wall's. version: of the desired state."""
    child = slot.child
    shown: dict[str, Any] = {
        "slot": slot.name,
        "groups": list(slot.program.groups),
        "state": str(slot.state),
        "pid": slot.pid,
        "epoch": slot.epoch,
        "since": moments.shown(wall - (now - slot.since)) if slot.since else None,
        "started": None,
        "uptime": None,
        "restarts": max(slot.epoch - 1, 0),
        "reason": None if slot.reason is None else slot.reason[:SENTENCE_LIMIT],
        "degraded": slot.degraded,
        "applied": None,
        "wanted": version,
        "errors": {},
        "silent": None,
        "waiting": slot.waiting,
        "note": None,
        "statistics": {},
    }
    if child is not None:
        shown |= {
            "started": moments.shown(wall - (now - child.started_at)),
            "uptime": round(now - child.started_at, 3),
            "applied": child.feed.applied,
            "errors": dict(sorted(child.feed.errors.items())[:ERRORS_LIMIT]),
            "silent": child.vitals.silent(now),
            "note": child.sentence[:SENTENCE_LIMIT] if child.ready_at is None and child.sentence else None,
            "statistics": dict(child.vitals.statistics),
        }
    return shown
