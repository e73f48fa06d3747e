"""Answers as the OpenAPI document shows them: by method and path, what stands in the body of the first success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WHEN = "2026-11-21T10:00:00.000Z"
_LIVE = {"live": 6, "of": 6, "slots": [], "machines": [], "missing": []}

_NOTIFICATION = {
    "id": "order-42-paid", "merchant": "shop-7", "reference": "order-42", "url": "https://shop-7.example/hooks",
    "ladder": ["1s", "3s", "5s", "15s", "30s"], "status": "exhausted", "reason": None, "detail": None, "run": 0,
    "attempts": 5, "step": 4, "tier": "30s", "due_at": None, "accepted_at": _WHEN, "updated_at": _WHEN,
    "finished_at": _WHEN, "last_error": "status", "last_status": 500, "content_type": "application/json",
    "payload_kept": True,
}  # fmt: skip
_ATTEMPT = {
    "attempt": "5b1e6f0e-6f0e-4b1e-9f0e-1e6f0e4b1e9f", "run": 0, "number": 1, "step": 0, "tier": "1s", "due": _WHEN,
    "started": _WHEN, "late_ms": 2.4, "duration_ms": 12.8, "address": "203.0.113.7:443",
    "sent_headers": {"webhook-id": "order-42-paid"}, "status": 500, "error": "status", "detail": "500",
    "answer": "out of order", "answer_base64": "b3V0IG9mIG9yZGVy", "decision": "next-tier", "next_tier": "3s",
}  # fmt: skip
_EVENT = {
    "kind": "accepted", "run": 0, "at": _WHEN, "tier": "1s", "reason": None, "detail": None, "who": None,
}  # fmt: skip
_REPLAY = {
    "id": "rpl_1f0e4b1e9f5b1e6f", "filter": {"merchant": "shop-7", "status": "exhausted"},
    "who": "the settings' token", "state": "running", "total": 1200, "done": 400, "skipped": 0,
    "created_at": _WHEN, "finished_at": None, "problem": None,
}  # fmt: skip
_MERCHANT = {
    "id": "shop-7", "added": True, "url": "https://shop-7.example/hooks", "ladder": None, "ack": None,
    "concurrency": None, "rate": None, "headers": {}, "standing": "enabled", "why": None, "since": None, "until": None,
    "who": None, "disabled": None, "blocked": None, "secrets": [{"until": None}], "version": 12, "changed_at": _WHEN,
}  # fmt: skip
_CHANGED = {"merchant": _MERCHANT, "live": _LIVE}
_BLOCKED = {
    **_MERCHANT,
    "standing": "blocked",
    "why": "charged twice, see INC-118",
    "who": "token tok_0123456789ab",
    "since": _WHEN,
}
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  # the one of Standard Webhooks' test vector
_TIER = {
    "tier": "5s", "waiting": 120, "due": 0, "in_flight": 3, "head_late_ms": 0, "attempts_per_s": 40.0,
    "delivered_per_s": 38.5, "failed_per_s": 1.5, "late_p50_ms": 2.1, "late_p99_ms": 11.0, "paused": False,
    "pause": None, "paused_by": None, "paused_until": None, "paused_why": None,
    "slots": [{"slot": "tier:5s", "state": "ready", "restarts": 0}],
}  # fmt: skip

EXAMPLES: Mapping[tuple[str, str], Any] = {
    ("get", "/v1/notifications"): {"notifications": [_NOTIFICATION], "next": None},
    ("get", "/v1/notifications/{id}"): {
        **_NOTIFICATION, "attempt_log": [_ATTEMPT], "events": [_EVENT], "payload": '{"order":42}',
        "payload_base64": "eyJvcmRlciI6NDJ9",
    },
    ("post", "/v1/notifications/{id}/replay"): {"id": "order-42-paid", "run": 1},
    ("post", "/v1/notifications/{id}/cancel"): {"id": "order-42-paid", "status": "stopped", "live": _LIVE},
    ("get", "/v1/undelivered"): {
        "groups": [
            {"merchant": "shop-7", "status": "exhausted", "reason": None, "last_error": "status", "count": 1200,
             "oldest": _WHEN, "newest": _WHEN}
        ]
    },
    ("post", "/v1/replays"): {"replay": "rpl_1f0e4b1e9f5b1e6f", "total": 1200},
    ("get", "/v1/replays"): {"replays": [_REPLAY]},
    ("get", "/v1/replays/{replay}"): _REPLAY,
    ("post", "/v1/replays/{replay}/stop"): {"replay": "rpl_1f0e4b1e9f5b1e6f", "state": "cancelled"},
    ("get", "/v1/merchants"): {"merchants": [_MERCHANT], "next": None},
    ("post", "/v1/merchants"): {**_CHANGED, "secret": _SECRET},
    ("get", "/v1/merchants/{merchant}"): {**_MERCHANT, "effective": {"concurrency": 20, "rate": None}},
    ("patch", "/v1/merchants/{merchant}"): _CHANGED,
    ("post", "/v1/merchants/{merchant}/rotate"): {**_CHANGED, "secret": _SECRET},
    ("post", "/v1/merchants/{merchant}/block"): {"merchant": _BLOCKED, "live": _LIVE},
    ("post", "/v1/merchants/{merchant}/test"): {"id": "ntf_0123456789abcdef0123456789abcdef"},
    ("get", "/v1/tiers"): {
        "at": _WHEN, "state": "running", "tiers": [_TIER], "slots": [], "breakers": [], "overflows": [],
        "held_back": {"open": 0, "half-open": 0, "overflows": {}}, "facts_waiting": 0, "poison": 0,
        "totals": {"accepted": 3, "completed": 41_822}, "problems": [],
    },
    ("post", "/v1/tiers/{tier}/pause"): {
        "tier": "5s", "paused": True, "until": _WHEN, "live": {"live": 1, "of": 1, "missing": []},
    },
    ("post", "/v1/tiers/{tier}/resume"): {
        "tier": "5s", "paused": False, "paused_by": [], "started": [], "live": {"live": 1, "of": 1, "missing": []},
    },
    ("post", "/v1/tiers/{tier}/drain"): {"tier": "5s", "slots": [{"slot": "tier:5s", "result": "drained"}]},
    ("get", "/v1/pull"): {
        "notifications": [
            {"id": "order-42-paid", "reference": "order-42", "status": "exhausted", "accepted_at": _WHEN,
             "content_type": "application/json", "payload": '{"order":42}', "payload_base64": "eyJvcmRlciI6NDJ9"}
        ],
        "next": None,
    },
    ("post", "/v1/pull/confirm"): {"confirmed": ["order-42-paid"], "unknown": [], "still_attempted": []},
    ("get", "/v1/tokens"): {
        "tokens": [{"id": "tok_0123456789ab", "role": "read", "merchant": None, "note": "grafana", "created_at": _WHEN}]
    },
    ("post", "/v1/tokens"): {"id": "tok_0123456789ab", "token": "ntk_…"},
    ("get", "/readyz"): {"status": "ok", "broker": "up", "database": "up"},
}  # fmt: skip
