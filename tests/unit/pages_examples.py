"""Values as the service gives them, for the tests of the pages: a ladder under load, merchants in every trouble."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def iso(seconds_ago: float) -> str:
    """A moment so long before NOW."""
    return (NOW - timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def tier(name: str, **more: Any) -> dict[str, Any]:
    """A tier as `api.live` tells it."""
    return {
        "tier": name,
        "waiting": 40,
        "due": 0,
        "in_flight": 3,
        "head_late_ms": 0,
        "attempts_per_s": 12.0,
        "delivered_per_s": 11.2,
        "failed_per_s": 0.8,
        "late_p50_ms": 2.4,
        "late_p99_ms": 11.0,
        "paused": False,
        "pause": None,
        "paused_by": None,
        "paused_until": None,
        "paused_why": None,
        "slots": [{"slot": f"tier:{name}", "state": "ready", "restarts": 0}],
    } | more


def slot(name: str, **more: Any) -> dict[str, Any]:
    """A slot of the master's status."""
    return {
        "slot": name,
        "groups": [name.partition(":")[0]],
        "state": "ready",
        "pid": 41,
        "epoch": 1,
        "uptime": 5400.0,
        "restarts": 0,
        "reason": None,
        "degraded": False,
        "errors": {},
        "note": None,
        "statistics": {},
    } | more


def live(**more: Any) -> dict[str, Any]:
    """What `api.live` tells."""
    return {
        "at": iso(0),
        "state": "running",
        "tiers": [
            tier("1s", waiting=212, in_flight=14, delivered_per_s=196.4, failed_per_s=9.1, attempts_per_s=205.5),
            tier("3s", waiting=31, delivered_per_s=4.2, failed_per_s=4.6),
            tier(
                "5s",
                waiting=18,
                due=61,
                in_flight=0,
                paused=True,
                delivered_per_s=0.0,
                failed_per_s=0.0,
                head_late_ms=412_000,
                late_p50_ms=None,
                late_p99_ms=None,
                pause={
                    "target": "tier:5s",
                    "who": "root uid=0 pid=77",
                    "why": "the network of Lyon is being moved",
                    "since": iso(420),
                    "until": iso(-1800),
                },
                slots=[{"slot": "tier:5s", "state": "paused", "restarts": 0}],
            ),
            tier("15s", waiting=64, in_flight=1, delivered_per_s=0.4, failed_per_s=3.7, late_p99_ms=38.0),
            tier(
                "30s",
                waiting=97,
                in_flight=0,
                delivered_per_s=0.1,
                failed_per_s=3.1,
                late_p50_ms=3.1,
                late_p99_ms=1240.0,
            ),
        ],
        "slots": [
            slot("tier:1s"),
            slot("tier:3s"),
            slot("tier:5s", state="paused"),
            slot("tier:15s", restarts=2, reason="SIGKILL by someone else: out of memory?", uptime=311.0),
            slot("tier:30s"),
            slot("agent"),
            slot("api"),
        ],
        "breakers": [],
        "overflows": [],
        "held_back": {"open": 0, "half-open": 0, "overflows": {}},
        "facts_waiting": 12,
        "poison": 0,
        "totals": {"completed": 48_210, "attempted": 181, "accepted": 243, "held": 61, "exhausted": 212, "stopped": 4},
        "problems": [],
    } | more


def courses() -> dict[str, list[tuple[int, int]]]:
    """Attempts of five minutes."""
    return {
        "1s": [
            (int(900 + 220 * math.sin(i / 5) + 90 * math.sin(i * 1.7)), int(40 + 30 * math.sin(i / 9)))
            for i in range(60)
        ],
        "3s": [(int(22 + 8 * math.sin(i / 3)), int(24 + 10 * math.sin(i / 4 + 1))) for i in range(60)],
        "5s": [(12, 14) if i < 20 else (0, 0) for i in range(60)],
        "15s": [(2, int(18 + 5 * math.sin(i / 2))) for i in range(60)],
        "30s": [(i % 3, 15 + i % 5) for i in range(60)],
    }


def group(merchant: str, status: str, **more: Any) -> dict[str, Any]:
    """A group of what is undelivered."""
    return {
        "merchant": merchant,
        "status": status,
        "reason": None,
        "last_error": None,
        "last_status": None,
        "detail": None,
        "count": 12,
        "oldest": iso(7200),
        "newest": iso(140),
    } | more


def registered(name: str, **more: Any) -> dict[str, Any]:
    """A merchant as the registry shows it."""
    return {
        "id": name,
        "added": True,
        "url": f"https://{name}.example/webhooks",
        "ladder": None,
        "ack": None,
        "concurrency": None,
        "rate": None,
        "headers": {},
        "standing": "enabled",
        "why": None,
        "since": None,
        "until": None,
        "disabled": None,
        "blocked": None,
        "secrets": [{"until": None}],
        "version": 7,
        "changed_at": iso(86_000),
    } | more


GROUPS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    (
        group("shop-7", "held", reason="blocked", count=61),
        registered("shop-7", standing="blocked", why="charged twice, see INC-118", since=iso(5400)),
    ),
    (
        group(
            "lyon-books",
            "exhausted",
            last_error="status",
            last_status=500,
            detail="HTTP 500: database is locked",
            count=204,
        ),
        registered("lyon-books"),
    ),
    (group("atelier-9", "held", reason="unknown-merchant", count=3), None),
    (
        group("cafe-nord", "exhausted", last_error="connect", detail="connection refused by 203.0.113.9:443", count=8),
        registered("cafe-nord"),
    ),
    (
        group("old-mill", "stopped", reason="410 Gone", last_error="status", last_status=410, count=4),
        registered("old-mill", standing="disabled", why="the endpoint answered 410 Gone", since=iso(90_000)),
    ),
    (
        group(
            "tea-house",
            "exhausted",
            last_error="wrong-answer",
            last_status=200,
            detail="answered 200 with “OK”",
            count=1,
        ),
        registered("tea-house", ack="body=success"),
    ),
]


def attempt(number: int, step: int, tier: str, due: float, late_ms: float, **more: Any) -> dict[str, Any]:
    """An attempt of an `attempt_log`."""
    return {
        "attempt": f"a{number}",
        "run": 0,
        "number": number,
        "step": step,
        "tier": tier,
        "due": iso(due),
        "started": iso(due - late_ms / 1000),
        "late_ms": late_ms,
        "duration_ms": 84.2,
        "address": "203.0.113.9:443",
        "sent_headers": {"webhook-id": "evt_1", "content-type": "application/json"},
        "status": 500,
        "error": "status",
        "detail": "HTTP 500",
        "answer": '{"error": "database is locked"}',
        "answer_base64": "",
        "decision": "next-tier",
        "next_tier": "3s",
        "notification": "evt_1",
        "merchant": "lyon-books",
    } | more


def notification(**more: Any) -> dict[str, Any]:
    """What `ledger.notifications.show` tells."""
    return {
        "id": "ntf_01JD6Y0R2Q8W3N5",
        "merchant": "lyon-books",
        "reference": "ORDER-88213",
        "url": None,
        "ladder": ["1s", "3s", "5s", "15s", "30s"],
        "status": "attempted",
        "reason": None,
        "detail": None,
        "run": 0,
        "attempts": 3,
        "step": 3,
        "tier": "15s",
        "due_at": iso(-9),
        "accepted_at": iso(16),
        "updated_at": iso(6),
        "finished_at": None,
        "last_error": "status",
        "last_status": 500,
        "content_type": "application/json",
        "payload_kept": True,
        "payload": '{"order": 88213, "state": "paid", "amount": "42.00"}',
        "payload_base64": "",
        "attempt_log": [
            attempt(1, 0, "1s", 15, 3.1),
            attempt(2, 1, "3s", 11.9, 2.2, status=None, error="timeout", detail="no answer within 10.0 s", answer=""),
            attempt(3, 2, "5s", 6.8, 640.0),
        ],
        "events": [
            {"kind": "accepted", "run": 0, "at": iso(16), "tier": "1s", "reason": None, "detail": None, "who": None}
        ],
    } | more
