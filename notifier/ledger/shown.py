"""Rows as JSON, the same for HTTP, `--json` and pages. Moments are ISO 8601 in UTC."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from notifier import logs
from notifier.ledger.fact_rows import clean
from notifier.ledger.standing import WAITING

Columns = Mapping[Any, Any]


def notification(row: Columns) -> dict[str, Any]:
    """One notification. Needs its columns, and `payload_kept` in place of the payload."""
    return {
        "id": row["id"],
        "merchant": row["merchant"],
        "reference": row["reference"],
        "url": row["url"],
        "ladder": row["ladder"].split(",") if row["ladder"] else None,
        "status": row["status"],
        # delivered once, sent again, and held now: that is why
        "reason": row["stands_why"] if row["stands"] == "held" else row["reason"],
        "detail": row["detail"],
        "run": row["run"],
        "attempts": row["attempts"],
        "step": row["step"],
        "tier": row["tier"],
        "due_at": moment(row["due_at"]) if row["stands"] in WAITING else None,
        "accepted_at": moment(row["accepted_at"]),
        "updated_at": moment(row["updated_at"]),
        "finished_at": moment(row["finished_at"]),
        "last_error": row["last_error"],
        "last_status": row["last_status"],
        "content_type": row["content_type"],
        "payload_kept": bool(row["payload_kept"]),
    }


def attempt(row: Columns) -> dict[str, Any]:
    """One attempt of a notification."""
    return {
        "attempt": row["attempt"],
        "run": row["run"],
        "number": row["number"],
        "step": row["step"],
        "tier": row["tier"],
        "due": moment(row["due"]),
        "started": moment(row["started"]),
        "late_ms": row["late_ms"],
        "duration_ms": row["duration_ms"],
        "address": row["address"],
        "sent_headers": None if row["sent_headers"] is None else _headers(row["sent_headers"]),
        "status": row["status"],
        "error": row["error"],
        "detail": row["detail"],
        "answer": None if row["answer"] is None else bytes(row["answer"]).decode(errors="replace"),
        "answer_base64": encoded(row["answer"]),
        "decision": row["decision"],
        "next_tier": row["next_tier"],
    }


def _headers(kept: str) -> dict[str, str]:
    """Names and values as text that every form of output takes: JSON can hold what UTF-8 cannot."""
    return {clean(str(name)): clean(str(value)) for name, value in json.loads(kept).items()}


def passing_attempt(row: Columns) -> dict[str, Any]:
    """One attempt among those of all notifications: whose it is, and its place among them, without what is long."""
    whole = attempt({**row, "sent_headers": None, "answer": None})
    for name in ("sent_headers", "answer", "answer_base64"):
        del whole[name]
    return {"seq": row["seq"], "notification": row["notification"], "merchant": row["merchant"], **whole}


def event(row: Columns) -> dict[str, Any]:
    """Anything else that happened to a notification."""
    names = ("kind", "run", "at", "tier", "reason", "detail", "who")
    return {name: moment(row[name]) if name == "at" else row[name] for name in names}


def payload(kept: bytes | None) -> dict[str, Any]:
    """The payload twice: as text where it is UTF-8, and as it is."""
    try:
        text = None if kept is None else bytes(kept).decode()
    except UnicodeDecodeError:
        text = None
    return {"payload": text, "payload_base64": encoded(kept)}


def moment(unix_ms: int | None) -> str | None:
    """ISO 8601, UTC."""
    return None if unix_ms is None else logs.moment(unix_ms)


def encoded(kept: bytes | None) -> str | None:
    """Base64."""
    return None if kept is None else base64.b64encode(kept).decode()
